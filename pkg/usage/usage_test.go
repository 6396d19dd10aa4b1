package usage_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var partition = eventlog.Partition{Topic: "usage"}

// run has a part run until stop is called, or the test ends.
func run(t testing.TB, part interface{ Run(context.Context) error }) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func meter(t testing.TB, log eventlog.Appender) (*usage.Meter, func()) {
	m := usage.NewMeter(usage.MeterConfig{Log: log})
	return m, run(t, m)
}

// totals are caught up when it returns.
func totals(t testing.TB, log usage.Log) (*usage.Totals, func()) {
	t.Helper()
	tt := usage.NewTotals(usage.TotalsConfig{Log: log})
	stop := run(t, tt)
	select {
	case <-tt.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("totals aren't ready")
	}
	return tt, stop
}

// show puts all that is known of an org in a text.
func show(t testing.TB, tt *usage.Totals, org string) string {
	t.Helper()
	months, days, err := tt.Of(org)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, r := range months {
		fmt.Fprintln(&b, r.Start.Format("2006-01"), r.Environment, r.Counts)
	}
	for _, r := range days {
		fmt.Fprintln(&b, r.Start.Format(time.DateOnly), r.Environment, r.Counts)
	}
	return b.String()
}

// thisMonth gives what was counted of an org in this month.
func thisMonth(tt *usage.Totals, org string, env event.Environment) usage.Counts {
	months, _, err := tt.Of(org)
	now := time.Now().UTC()
	for _, r := range months {
		if err == nil && r.Environment == env && r.Start.Year() == now.Year() && r.Start.Month() == now.Month() {
			return r.Counts
		}
	}
	return usage.Counts{}
}

// await waits until an org's month is as wanted.
func await(t testing.TB, tt *usage.Totals, org string, env event.Environment, want usage.Counts, within time.Duration) {
	t.Helper()
	for begun := time.Now(); thisMonth(tt, org, env) != want; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > within {
			t.Fatalf("%s has %v, not %v, after %s", org, thisMonth(tt, org, env), want, within)
		}
	}
}

func onBothLogs(t *testing.T, test func(*testing.T, eventlog.Log)) {
	t.Run("embedded", func(t *testing.T) { test(t, eventlogtest.Mem(t, usage.Topic)) })
	t.Run("kafka", func(t *testing.T) { test(t, eventlogtest.Kafka(t, usage.Topic)) })
}

// What several processes count comes to the same on all nodes, also on those that
// start later; and whoever stops leaves nothing out.
func TestProcessesAddUp(t *testing.T) {
	onBothLogs(t, func(t *testing.T, log eventlog.Log) {
		one, stopOne := meter(t, log)
		other, _ := meter(t, log)
		here, _ := totals(t, log)
		there, _ := totals(t, log)
		a := one.Of("org_a", event.Live)
		for range 3 {
			a.Add(usage.Published, 2)
			other.Of("org_a", event.Live).Add(usage.Attempts, 1)
			other.Of("org_a", event.Sandbox).Add(usage.Streamed, 5)
			one.Of("org_b", event.Live).Add(usage.Delivered, 1)
			time.Sleep(500 * time.Millisecond)
		}
		a.Add(usage.Published, 1) // of its last second
		stopOne()
		want := usage.Counts{usage.Published: 7, usage.Attempts: 3}
		for _, tt := range []*usage.Totals{here, there} {
			await(t, tt, "org_a", event.Live, want, 10*time.Second)
			await(t, tt, "org_a", event.Sandbox, usage.Counts{usage.Streamed: 15}, 10*time.Second)
			await(t, tt, "org_b", event.Live, usage.Counts{usage.Delivered: 3}, 10*time.Second)
		}
		again, _ := totals(t, log)
		for _, org := range []string{"org_a", "org_b", "org_nobody"} {
			if got := show(t, again, org); got != show(t, here, org) || (got == "") != (org == "org_nobody") {
				t.Errorf("%s after a restart:\n%sbefore:\n%s", org, got, show(t, here, org))
			}
		}
	})
}

// Counts show up about a second later, and where nothing is counted nothing is
// appended.
func TestOneSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		m, stopMeter := meter(t, log)
		tt, stop := totals(t, log)
		defer stopMeter()
		defer stop()
		time.Sleep(300 * time.Millisecond)
		m.Of("org_a", event.Live).Add(usage.Published, 1)
		await(t, tt, "org_a", event.Live, usage.Counts{1}, 1100*time.Millisecond)
		time.Sleep(10 * time.Minute)
		if _, end, err := log.Bounds(t.Context(), partition); end != 1 || err != nil {
			t.Errorf("%d records of one count: %v", end, err)
		}
	})
}

// unsure is a log whose answers are lost now and then, before the append or
// behind it.
type unsure struct {
	eventlog.Log
	lost atomic.Int64
}

func (l *unsure) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	switch rand.IntN(4) {
	case 0:
		l.lost.Add(1)
		return nil, errors.New("not appended")
	case 1:
		l.lost.Add(1)
		l.Log.Append(ctx, records)
		return nil, errors.New("appended, and nobody knows")
	}
	return l.Log.Append(ctx, records)
}

// A delta counts once, however often it is appended.
func TestAnswersAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := eventlogtest.Mem(t, usage.Topic)
		log := &unsure{Log: mem}
		m, stopMeter := meter(t, log)
		tt, stop := totals(t, mem)
		defer stop()
		counted := usage.Counts{}
		for range 500 {
			n := rand.IntN(4)
			m.Of("org_a", event.Live).Add(usage.Delivered, n)
			counted[usage.Delivered] += int64(n)
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
		}
		await(t, tt, "org_a", event.Live, counted, time.Minute)
		stopMeter()
		again, stopAgain := totals(t, mem)
		defer stopAgain()
		if got := thisMonth(again, "org_a", event.Live); got != counted || log.lost.Load() < 20 {
			t.Errorf("%v of %v, %d answers lost", got, counted, log.lost.Load())
		}
	})
}

// A log that is away for a while costs nothing but the time.
func TestALogThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := eventlogtest.Mem(t, usage.Topic)
		log := &away{Log: mem}
		m, stopMeter := meter(t, log)
		defer stopMeter()
		tt, stop := totals(t, log)
		defer stop()
		for i := range 600 {
			log.gone.Store(i > 100 && i < 500)
			m.Of("org_a", event.Sandbox).Add(usage.Published, 1)
			time.Sleep(time.Second)
		}
		await(t, tt, "org_a", event.Sandbox, usage.Counts{600}, 5*time.Second)
	})
}

type away struct {
	eventlog.Log
	gone atomic.Bool
}

func (l *away) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if l.gone.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return l.Log.Append(ctx, records)
}

// Days go by, and nodes come and go: all make the same of it, and what is kept in
// the log, and so a start, stays small.
func TestDaysGoBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		begun := time.Now() // midnight
		steady, stopSteady := totals(t, log)
		defer stopSteady()
		days := make(map[string]int64)
		for day := range 2 {
			time.Sleep(time.Until(begun.AddDate(0, 0, day)))
			m, stopMeter := meter(t, log)
			other, stopOther := meter(t, log)
			_, stop := totals(t, log)
			for range 100 {
				n := 1 + rand.IntN(5)
				m.Of("org_a", event.Live).Add(usage.Published, n)
				other.Of("org_a", event.Live).Add(usage.Delivered, n)
				days[time.Now().UTC().Format(time.DateOnly)] += int64(n)
				time.Sleep(5 * time.Second)
			}
			stopMeter()
			stopOther()
			stop()
		}
		time.Sleep(time.Second)
		tt, stop := totals(t, log)
		defer stop()
		_, got, err := tt.Of("org_a")
		if err != nil || len(got) != 2 {
			t.Fatalf("%d days: %v", len(got), err)
		}
		for _, r := range got {
			if want := days[r.Start.Format(time.DateOnly)]; r.Counts != (usage.Counts{usage.Published: want, usage.Delivered: want}) {
				t.Errorf("%s: %v, not %d", r.Start.Format(time.DateOnly), r.Counts, want)
			}
		}
		if show(t, tt, "org_a") != show(t, steady, "org_a") {
			t.Errorf("a node that ran all the time has\n%s", show(t, steady, "org_a"))
		}
		if start, end, _ := log.Bounds(t.Context(), partition); end-start > 250 || end < 400 {
			t.Errorf("the log has %d of %d records", end-start, end)
		}
	})
}

// A node that can't follow any more doesn't append the same checkpoint for ever.
func TestOneCheckpointOfOneState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		_, stop := totals(t, log)
		defer stop()
		delta := func(n int) string {
			return fmt.Sprintf(`{"v":1,"delta":{"writer":"w","number":%d,"counts":{"live":{"org_a":[1]}}}}`, n)
		}
		put(t, log, delta(1))
		time.Sleep(24 * time.Hour)
		put(t, log, delta(2), `{"v":2}`)
		time.Sleep(time.Hour)
		if _, end, err := log.Bounds(t.Context(), partition); end > 4 || err != nil {
			t.Errorf("%d records: %v", end, err)
		}
	})
}

// Many orgs, and much for each: records stay within bounds, and a start from a
// checkpoint of many parts makes the same totals.
func TestManyOrgs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, usage.Topic)
		m, stopMeter := meter(t, log)
		tt, stop := totals(t, log)
		const orgs = 10_000
		name := func(i int) string { return fmt.Sprintf("org_%s%d", strings.Repeat("x", 40), i) }
		for round := range 6 {
			for i := range orgs {
				m.Of(name(i), event.Live).Add(usage.Streamed, i+1)
			}
			time.Sleep(2 * time.Minute) // a checkpoint is looked for
			if got, want := thisMonth(tt, name(7), event.Live), int64(8*(round+1)); got[usage.Streamed] != want {
				t.Fatalf("round %d: %v, not %d", round, got, want)
			}
		}
		stopMeter()
		stop()
		start, end, err := log.Bounds(t.Context(), partition)
		if err != nil || start == 0 {
			t.Fatalf("no checkpoint was made: %v", err)
		}
		largest := 0
		for at := start; at < end; {
			records, err := log.Read(t.Context(), partition, at, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				largest, at = max(largest, len(r.Value)), r.Offset+1
			}
		}
		if largest > 200<<10 || largest < 50<<10 {
			t.Errorf("a record has %d bytes", largest)
		}
		again, stopAgain := totals(t, log)
		defer stopAgain()
		for i := range orgs {
			if got := thisMonth(again, name(i), event.Live); got[usage.Streamed] != int64(6*(i+1)) {
				t.Fatalf("%s has %v, not %d", name(i), got, 6*(i+1))
			}
		}
	})
}

func put(t testing.TB, log eventlog.Log, values ...string) {
	t.Helper()
	for _, v := range values {
		if _, err := log.Append(t.Context(), []eventlog.Record{{Partition: partition, Value: []byte(v)}}); err != nil {
			t.Fatal(err)
		}
	}
}

// What isn't known is passed over, and so is what can't be read; what a newer
// release must have known stops the totals, and says so.
func TestOtherReleases(t *testing.T) {
	log := eventlogtest.Mem(t, usage.Topic)
	tt, _ := totals(t, log)
	put(t, log,
		`{"v":1,"delta":{"writer":"w","number":1,"new":[1],"counts":{"live":{"org_a":[1,2,3,4,5,6,7]},"staging":{"org_a":[9]}}},"more":true}`,
		`{"v":1,"delta":{"writer":"w","number":2,"counts":{"live":{"org_a":[1]}}}}`,
		`{"v":1,"something":{}}`, ``, `null`, `[]`, `{"v":0}`, "\xff",
		`{"v":1,"delta":{"writer":"","number":3,"counts":{"live":{"org_a":[1]}}}}`,
		`{"v":1,"delta":{"writer":"w","number":3,"counts":{"live":{"org_a":[-1]}}}}`,
		`{"v":1,"delta":{"writer":"w","number":3,"counts":{"live":{"org_a":[1.5]}}}}`,
		`{"v":1,"delta":{"writer":"w","number":2,"counts":{"live":{"org_a":[1]}}}}`,
		`{"v":1,"checkpoint":{"id":"x","part":1,"parts":1}}`,
		`{"v":1,"checkpoint":{"id":"x","part":0,"parts":2,"accounts":[{"org":"org_a","env":"live","months":[[24311,1000]]}]}}`,
		`{"v":1,"delta":{"writer":"w","number":3,"counts":{"live":{"org_a":[0,1]}}}}`)
	want := usage.Counts{2, 3, 3, 4, 5, 6}
	await(t, tt, "org_a", event.Live, want, 10*time.Second)
	again, _ := totals(t, log) // a checkpoint that isn't whole doesn't count
	if got := thisMonth(again, "org_a", event.Live); got != want {
		t.Errorf("after a restart %v, not %v", got, want)
	}
	put(t, log, `{"v":2,"delta":{"weights":"all new"}}`)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		_, _, err := tt.Of("org_a")
		if errors.Is(err, usage.ErrUnavailable) && strings.Contains(err.Error(), "upgrade") {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("it says %v", err)
		}
	}
	later, _ := totals(t, log) // who starts behind it isn't kept from all else
	if _, _, err := later.Of("org_a"); !errors.Is(err, usage.ErrUnavailable) || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("after a restart it says %v", err)
	}
}

// A node that slept between making a checkpoint and appending it doesn't take
// back what another's has.
func TestAStaleCheckpoint(t *testing.T) {
	log := eventlogtest.Mem(t, usage.Topic)
	month := time.Now().UTC().Year()*12 + int(time.Now().UTC().Month()) - 1
	of := func(id string, deltas, n int) string {
		return fmt.Sprintf(`{"v":1,"checkpoint":{"id":%q,"part":0,"parts":1,"deltas":%d,"writers":{"w":[%d,%d]},"accounts":[{"org":"org_a","env":"live","months":[[%d,%d]],"days":[]}]}}`, id, deltas, deltas, time.Now().Unix()/86400, month, n)
	}
	put(t, log, of("fresh", 5, 50), of("stale", 2, 20), `{"v":1,"delta":{"writer":"w","number":5,"counts":{"live":{"org_a":[10]}}}}`,
		`{"v":1,"delta":{"writer":"w","number":6,"counts":{"live":{"org_a":[1]}}}}`)
	tt, _ := totals(t, log)
	if got := thisMonth(tt, "org_a", event.Live); got != (usage.Counts{51}) {
		t.Errorf("%v", got)
	}
}

// What was counted goes along to another log, and counting goes on there.
func TestCopied(t *testing.T) {
	from, to := eventlogtest.Mem(t, usage.Topic), eventlogtest.Mem(t, usage.Topic)
	m, stop := meter(t, from)
	m.Of("org_a", event.Live).Add(usage.Published, 7)
	m.Of("org_a", event.Sandbox).Add(usage.Streamed, 3)
	stop()
	if err := usage.Copy(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	before, _ := totals(t, from)
	after, _ := totals(t, to)
	if got, want := show(t, after, "org_a"), show(t, before, "org_a"); got != want || want == "" {
		t.Errorf("copied:\n%swas:\n%s", got, want)
	}
	on, stopOn := meter(t, to)
	on.Of("org_a", event.Live).Add(usage.Published, 1)
	stopOn()
	await(t, after, "org_a", event.Live, usage.Counts{8}, 10*time.Second)
}

// A nil Meter counts nothing.
func TestNobodyCounts(t *testing.T) {
	var m *usage.Meter
	m.Of("org_a", event.Live).Add(usage.Published, 1)
}

// BenchmarkAdd is what counting costs where events are sent: one atomic add.
func BenchmarkAdd(b *testing.B) {
	m := usage.NewMeter(usage.MeterConfig{})
	c := m.Of("org_a", event.Live)
	for b.Loop() {
		c.Add(usage.Streamed, 1)
	}
}

// BenchmarkOf has the look-up of the org in it, as where requests come in.
func BenchmarkOf(b *testing.B) {
	m := usage.NewMeter(usage.MeterConfig{})
	for b.Loop() {
		m.Of("org_a", event.Live).Add(usage.Published, 1)
	}
}
