package lane

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// BenchmarkMonthTurns measures for how long a lane does nothing else when 1,000 orgs, which
// have 10,000 endpoints there, have used up their quotas at once, and when they have
// quota again.
func BenchmarkMonthTurns(b *testing.B) {
	sealer, err := control.NewSealer(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	state, err := control.Open(b.Context(), control.Config{Log: eventlogtest.Mem(b, control.Topic), Sealer: sealer, Lanes: 16})
	if err != nil {
		b.Fatal(err)
	}
	defer state.Close()
	cfg := Config{Control: state, Delays: []time.Duration{0}}
	cfg.defaults()
	l := newLane(context.Background(), cfg, eventlog.Share{})
	defer l.workers.cut()
	hook := &dialect.Webhook{Schedule: []time.Duration{0}, Metered: true}
	for i := range 10_000 {
		t := newTarget(fmt.Sprint("wh_", i))
		t.ep, t.hook = &endpoint.Endpoint{ID: t.id, Status: endpoint.Active}, hook
		l.join(t, fmt.Sprint("org_", i%1000))
		l.targets[t.id] = t
	}
	now := cfg.Clock.now()
	for b.Loop() {
		for _, o := range l.orgs {
			o.spent = true
			l.quotas.spent, l.quotas.fresh = append(l.quotas.spent, o), append(l.quotas.fresh, o)
		}
		l.shedSpent(now)
		l.quotas.again = now
		l.look(now)
		if len(l.quotas.spent) > 0 || len(l.quotas.fresh) > 0 {
			b.Fatal("some are spent still")
		}
	}
}
