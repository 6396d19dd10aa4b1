package bench

import (
	"context"
	"fmt"
	"time"
)

const (
	stalledConnections = 2000
	stalledOf          = 10 // one of so many stops reading
	stalledRate        = 60 // events per second
	stalledMeasure     = 8 * time.Second
	// stalledFill is how long it takes until what the kernel holds for one that doesn't
	// read is full, and its queue too.
	stalledFill = 15 * time.Second
)

// stalledRow: what clients that never read cost the others. All read at first;
// then some stop, and once their queues overflow the others are measured again.
var stalledRow = row{
	name: "stalled",
	what: fmt.Sprintf("%d WebSocket connections, %d events/s to all, %d bytes; then one of %d stops reading: the others, before and after",
		stalledConnections, stalledRate, fanoutBytes, stalledOf),
	figures: stalledFigures,
}

func stalledFigures(ctx context.Context, cfg *Config) ([]figure, error) {
	p, err := startProduct(ctx, cfg.Binary)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	deaf, err := p.subscribe(stalledConnections / stalledOf)
	defer deaf.close()
	if err != nil {
		return nil, err
	}
	deaf.narrow()
	others, err := p.subscribe(stalledConnections - len(deaf.conns))
	defer others.close()
	if err != nil {
		return nil, err
	}
	hear := func(d time.Duration) error {
		others.latency.reset()
		return others.hear(stalledRate, d, func() error { return p.publish(tick(nil, fanoutPad), "application/json") })
	}
	if err := hear(fanoutWarm); err != nil {
		return nil, err
	}
	if err := hear(stalledMeasure); err != nil {
		return nil, err
	}
	p50, p99 := others.latency.quantile(50), others.latency.quantile(99)
	deaf.stall()
	if err := hear(stalledFill); err != nil {
		return nil, err
	}
	lost := p.metric("sluice_stream_events_dropped_total")
	if err := hear(stalledMeasure); err != nil {
		return nil, err
	}
	return []figure{
		{"ms p50, all read", ms(p50)},
		{"ms p99, all read", ms(p99)},
		{"ms p50 of the others", ms(others.latency.quantile(50))},
		{"ms p99 of the others", ms(others.latency.quantile(99))},
		{"times p99", ms(others.latency.quantile(99)) / ms(p99)},
		{"events missing at the others", float64(others.missing())},
		{"events dropped for those that don't read, meanwhile", p.metric("sluice_stream_events_dropped_total") - lost},
	}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
