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
	stalledTurns       = 3
	stalledTurn        = 2 * time.Second
	// stalledFill is how long it takes until what the kernel holds for one that doesn't
	// read is full, and its queue too. Some 30 s after the first it is closed, which is
	// not to be measured.
	stalledFill = 12 * time.Second
)

// stalledRow: what clients that never read cost the others. At one of two processes
// some stop; once their queues overflow the others are measured at both in turns, for
// what else this machine does, to its disk above all, changes from second to second.
var stalledRow = row{
	name: "stalled",
	what: fmt.Sprintf("%d WebSocket connections, %d events/s to all, %d bytes; at one of two processes one of %d stops reading: the others at both, in turns",
		stalledConnections, stalledRate, fanoutBytes, stalledOf),
	figures: stalledFigures,
}

// side is one of the two processes.
type side struct {
	*product
	some, others *population // some may stop
	cpu          float64     // seconds, in its turns
}

func startSide(ctx context.Context, cfg *Config) (*side, error) {
	p, err := startProduct(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &side{product: p, others: newPopulation()}
	if s.some, err = p.subscribe(stalledConnections / stalledOf); err == nil {
		s.some.narrow()
		s.others, err = p.subscribe(stalledConnections - len(s.some.conns))
	}
	if err == nil {
		err = s.hear(fanoutWarm)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *side) stop() {
	s.some.close()
	s.others.close()
	s.product.stop()
}

func (s *side) hear(d time.Duration) error {
	before, err := s.product.cpu()
	if err != nil {
		return err
	}
	if err := s.others.hear(stalledRate, d, func() error { return s.publish(tick(nil, fanoutPad), "application/json") }); err != nil {
		return err
	}
	after, err := s.product.cpu()
	s.cpu += after - before
	return err
}

func stalledFigures(ctx context.Context, cfg *Config) ([]figure, error) {
	reads, err := startSide(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer reads.stop()
	stalls, err := startSide(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer stalls.stop()
	stalls.some.stall()
	if err := stalls.hear(stalledFill); err != nil {
		return nil, err
	}
	lost := stalls.metric("sluice_stream_events_dropped_total")
	for _, s := range []*side{reads, stalls} {
		s.cpu = 0
		s.others.latency.reset()
	}
	for range stalledTurns {
		for _, s := range []*side{reads, stalls} {
			if err := s.hear(stalledTurn); err != nil {
				return nil, err
			}
		}
	}
	p99, theirs := reads.others.latency.quantile(99), stalls.others.latency.quantile(99)
	return []figure{
		{"ms p50, where all read", ms(reads.others.latency.quantile(50))},
		{"ms p99, where all read", ms(p99)},
		{"ms p50 of the others", ms(stalls.others.latency.quantile(50))},
		{"ms p99 of the others", ms(theirs)},
		{"times p99", ms(theirs) / ms(p99)},
		{"CPU-s, where all read", reads.cpu},
		{"CPU-s, where some don't", stalls.cpu},
		{"events missing at the others", float64(stalls.others.missing())},
		{"events dropped for those that don't read, meanwhile", stalls.metric("sluice_stream_events_dropped_total") - lost},
	}, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
