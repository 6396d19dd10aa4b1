package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

var (
	topic     = eventlog.Topic{Name: event.Sandbox.Topic(), Partitions: 1, Retention: event.Kept}
	partition = eventlog.Partition{Topic: topic.Name}
	life      = event.Incarnation{1, 2, 3}
)

// published is an event as a publisher's request makes it.
func published(id, typ, org string, orgs ...string) *event.Event {
	if len(orgs) == 0 {
		orgs = []string{org}
	}
	slices.Sort(orgs)
	return &event.Event{
		ID: id, Type: typ, Org: org, Environment: event.Sandbox, Key: org,
		Audience: event.Audience{Orgs: orgs}, Timestamp: time.Now(), Data: []byte(`{"a":1}`),
	}
}

// past is a log with a reader on it, whose window has been fed by a tail.
type past struct {
	t      *testing.T
	log    someLog
	window *Window
	reader *Reader
}

type someLog interface {
	eventlog.Appender
	eventlog.Reader
}

func newPast(t *testing.T, window int) *past { return pastOf(t, eventlogtest.Mem(t, topic), window) }

func pastOf(t *testing.T, log someLog, window int) *past {
	p := &past{t: t, log: log, window: NewWindow(window, 0)}
	p.reader = New(Config{Log: p.log, Environment: event.Sandbox, Incarnation: life, Window: p.window})
	return p
}

func (p *past) append(events ...*event.Event) {
	p.t.Helper()
	var records []eventlog.Record
	for _, ev := range events {
		rec := eventlog.Record{Partition: partition}
		if ev == nil {
			rec.Value = []byte("poison")
		} else {
			rec.Value = ev.AppendRecord(nil)
		}
		records = append(records, rec)
	}
	for batch := range slices.Chunk(records, 5000) {
		if _, err := p.log.Append(p.t.Context(), batch); err != nil {
			p.t.Fatal(err)
		}
	}
}

// feed brings the window up to the log's end.
func (p *past) feed() {
	p.t.Helper()
	_, from := p.window.Bounds()
	for {
		records, err := p.log.Read(p.t.Context(), partition, from, 1<<20)
		if err != nil {
			p.t.Fatal(err)
		}
		if len(records) == 0 {
			return
		}
		var events []*event.Event
		for i := range records {
			r := &records[i]
			if ev, err := event.FromLog(r.Value, event.Sandbox, r.Offset, r.Time); err == nil {
				events = append(events, ev)
			}
			from = records[i].Offset + 1
		}
		p.window.Append(events, from)
	}
}

// newest looks to the end.
func (p *past) newest(from, to int64, limit int, match func(*event.Event) bool) *Newest {
	p.t.Helper()
	n, err := p.reader.Newest(p.t.Context(), from, to, limit, match)
	for more := true; more && err == nil; {
		more, err = n.Step(p.t.Context())
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func ids(events []*event.Event) string {
	var out []string
	for _, ev := range events {
		out = append(out, ev.ID)
	}
	return strings.Join(out, " ")
}

// pageBytes bounds the data of a page.
const pageBytes = 8 << 20

// The same questions, over a window that holds all, some or nothing of the log,
// against a plain list.
func TestNewestAndForward(t *testing.T) {
	for _, size := range []int{0, 1, 700, 1 << 14} {
		t.Run(fmt.Sprint("window of ", size), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(3, uint64(size)))
			p := newPast(t, size)
			var all []*event.Event // nil: poison
			for i := range 2500 {
				ev := published(fmt.Sprintf("e%d", i), []string{"a.rare", "a.b", "a.b", "a.c", "a.c"}[min(rnd.IntN(300), 4)], "org_a")
				if rnd.IntN(20) == 0 {
					ev = nil
				}
				all = append(all, ev)
			}
			p.append(all...)
			if size > 0 {
				p.feed()
			}
			for range 20 {
				from := rnd.IntN(2500)
				to := from + rnd.IntN(2501-from)
				limit := 1 + rnd.IntN(150)
				typ := []string{"a.rare", "a.b", "a.c"}[rnd.IntN(3)]
				match := func(ev *event.Event) bool { return ev.Type == typ }
				var want []*event.Event
				for _, ev := range all[from:to] {
					if ev != nil && match(ev) {
						want = append(want, ev)
					}
				}
				last := p.newest(int64(from), int64(to), limit, match)
				skipped := max(0, len(want)-limit)
				begin := int64(to)
				if len(want) > 0 {
					begin = int64(slices.Index(all, want[skipped]))
				}
				if last.Found != len(want)-skipped || last.From != begin || last.Skipped != int64(skipped) || last.AtLeast {
					t.Fatalf("Newest(%d, %d, %d, %s) = %d from %d, %d skipped (at least %v)\nwant %d from %d, %d", from, to, limit, typ,
						last.Found, last.From, last.Skipped, last.AtLeast, len(want)-skipped, begin, skipped)
				}
				var got []*event.Event
				room := make([]*event.Event, 0, rnd.IntN(2*limit)) // some of it for all, some for few or none
				for next, more := int64(from), true; more; {
					page, err := p.reader.Forward(t.Context(), next, int64(to), Most{Events: limit, Data: pageBytes, Into: room}, match)
					if n := len(page.Events); 0 < n && n <= cap(room) && &page.Events[0] != &room[:1][0] {
						t.Fatalf("%d events were put elsewhere than into the room for %d", n, cap(room))
					}
					if err != nil || len(page.Events) > limit || page.More && page.Next <= next {
						t.Fatalf("Forward(%d, %d, %d) = %d events, next %d, %v, %v", next, to, limit, len(page.Events), page.Next, page.More, err)
					}
					if page.More && len(page.Events) < limit {
						t.Fatalf("a short page of %d below every bound", len(page.Events))
					}
					got = append(got, page.Events...)
					next, more = page.Next, page.More
					if !more && next != int64(to) {
						t.Fatalf("stopped at %d of %d", next, to)
					}
				}
				if ids(got) != ids(want) {
					t.Fatalf("Forward(%d, %d, %s): %s\nwant %s", from, to, typ, ids(got), ids(want))
				}
			}
			if poisoned(t, p.reader) == 0 && size < 700 {
				t.Error("poison wasn't counted")
			}
		})
	}
}

func poisoned(t *testing.T, r *Reader) float64 {
	t.Helper()
	var m dto.Metric
	if err := r.poisoned.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue()
}

func TestNewestCountsWithinABound(t *testing.T) {
	p := newPast(t, 1024)
	var all []*event.Event
	for i := range CountBound + 5000 {
		all = append(all, published(fmt.Sprint(i), "a.b", "org_a"))
	}
	p.append(all...)
	p.feed()
	end := int64(len(all))
	last := p.newest(0, end, 10, func(*event.Event) bool { return true })
	if last.Found != 10 || last.From != end-10 || !last.AtLeast || last.Skipped < CountBound-2*logSpan || last.Skipped > CountBound+2*logSpan {
		t.Errorf("%d events from %d, %d skipped, at least %v", last.Found, last.From, last.Skipped, last.AtLeast)
	}
	// One match at the very beginning is found all the same.
	last = p.newest(0, end, 10, func(ev *event.Event) bool { return ev.Offset == 3 })
	if last.Found != 1 || last.From != 3 || last.Skipped != 0 || last.AtLeast {
		t.Errorf("%d events from %d, %d skipped, at least %v", last.Found, last.From, last.Skipped, last.AtLeast)
	}
	// A page that found nothing within its budget says so, and the next goes on.
	page, err := p.reader.Forward(t.Context(), 0, end, Most{Events: 10, Data: pageBytes}, func(ev *event.Event) bool { return ev.Offset == end-1 })
	if err != nil || len(page.Events) != 0 || !page.More || page.Next != ForwardEvents {
		t.Errorf("page %+v, %v", page, err)
	}
	page, err = p.reader.Forward(t.Context(), page.Next, end, Most{Events: 10, Data: pageBytes}, func(ev *event.Event) bool { return ev.Offset == end-1 })
	if err != nil || len(page.Events) != 1 || page.More || page.Next != end {
		t.Errorf("page %+v, %v", page, err)
	}
}

func TestForwardBoundsItsBytes(t *testing.T) {
	p := newPast(t, 0)
	for i := range 40 {
		ev := published(fmt.Sprint(i), "a.b", "org_a")
		ev.Data = []byte(`{"a":"` + strings.Repeat("x", event.MaxData-10) + `"}`)
		p.append(ev)
	}
	page, err := p.reader.Forward(t.Context(), 0, 40, Most{Events: 1000, Data: pageBytes}, func(*event.Event) bool { return true })
	if err != nil || !page.More || len(page.Events) != pageBytes/event.MaxData || page.Next != int64(len(page.Events)) {
		t.Errorf("%d events, next %d, more %v, %v", len(page.Events), page.Next, page.More, err)
	}
}

func TestPlace(t *testing.T) {
	p := newPast(t, 16)
	p.append(published("e0", "a.b", "org_a"), published("e1", "a.b", "org_a"))
	p.feed()
	p.append(published("e2", "a.b", "org_a")) // not in the window yet
	other := p.reader.Cursor(1)
	other.Environment = event.Live
	before := p.reader.Cursor(1)
	before.Incarnation[0]++
	for _, c := range []struct {
		cursor string
		next   int64
		err    error
	}{
		{p.reader.Cursor(0).String(), 0, nil},
		{p.reader.Cursor(2).String(), 2, nil},
		{p.reader.Cursor(3).String(), 3, nil},
		{p.reader.Cursor(4).String(), 0, ErrCursorInvalid},
		{p.reader.Cursor(1 << 40).String(), 0, ErrCursorInvalid},
		{other.String(), 0, ErrCursorInvalid},
		{before.String(), 0, ErrCursorExpired},
		{"", 0, ErrCursorInvalid},
		{"garbage", 0, ErrCursorInvalid},
		{strings.Repeat("A", event.CursorLen), 0, ErrCursorInvalid},
	} {
		next, err := p.reader.Place(t.Context(), c.cursor)
		if next != c.next || !errors.Is(err, c.err) {
			t.Errorf("Place(%q) = %d, %v; want %d, %v", c.cursor, next, err, c.next, c.err)
		}
	}
}

// Events are kept for eight days and shown for seven.
func TestSevenDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pastOf(t, &list{}, 16)
		p.append(published("old", "a.b", "org_a"))
		middle := time.Now()
		p.append(published("second", "a.b", "org_a"))
		time.Sleep(24 * time.Hour)
		p.append(published("new", "a.b", "org_a"))
		p.feed()
		all := func(*event.Event) bool { return true }
		if at, err := p.reader.At(t.Context(), middle.Add(time.Hour)); at != 2 || err != nil {
			t.Errorf("At an hour later = %d, %v", at, err)
		}
		if at, err := p.reader.At(t.Context(), time.Now().Add(time.Hour)); at != 3 || err != nil {
			t.Errorf("At a time to come = %d, %v", at, err)
		}
		time.Sleep(event.Shown - 24*time.Hour + time.Minute)
		if start, _, _ := p.log.Bounds(t.Context(), partition); start != 0 {
			t.Fatalf("the log itself begins at %d", start)
		}
		if _, err := p.reader.Place(t.Context(), p.reader.Cursor(1).String()); !errors.Is(err, ErrCursorExpired) {
			t.Errorf("Place of an old cursor: %v", err)
		}
		if next, err := p.reader.Place(t.Context(), p.reader.Cursor(2).String()); next != 2 || err != nil {
			t.Errorf("Place behind what has expired: %d, %v", next, err)
		}
		if _, err := p.reader.Forward(t.Context(), 0, 3, Most{Events: 10, Data: pageBytes}, all); !errors.Is(err, ErrCursorExpired) {
			t.Errorf("Forward from what has expired: %v", err)
		}
		if last := p.newest(0, 3, 10, all); last.Found != 1 || last.From != 2 || !last.AtLeast {
			t.Errorf("Newest = %d from %d, %v", last.Found, last.From, last.AtLeast)
		}
		if ev, err := p.reader.Find(t.Context(), "old", "org_a"); ev != nil || err != nil {
			t.Errorf("found %v, %v", ev, err)
		}
		if at, err := p.reader.At(t.Context(), time.Unix(0, 0)); at != 2 || err != nil {
			t.Errorf("At 1970 = %d, %v", at, err)
		}
	})
}

// A crowd that asks for the oldest place asks the log once.
func TestOldestIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &list{}
		p := pastOf(t, log, 0)
		p.append(published("e0", "a.b", "org_a"))
		ask := func() {
			var crowd sync.WaitGroup
			for range 100 {
				crowd.Go(func() {
					if _, err := p.reader.Oldest(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			crowd.Wait()
		}
		ask()
		ask()
		if log.lookups != 1 {
			t.Errorf("%d look-ups", log.lookups)
		}
		time.Sleep(oldestFor)
		ask()
		if log.lookups != 2 {
			t.Errorf("%d look-ups after a while", log.lookups)
		}
	})
}

// No more chunks of the log are read at a time than admitted, and who waits for
// one goes when its context ends.
func TestScansAreAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &list{slow: time.Second}
		p := pastOf(t, log, 0)
		var crowd sync.WaitGroup
		for i := range 10 {
			p.append(published(fmt.Sprint(i), "a.b", "org_a"))
		}
		for from := int64(9); from >= 0; from-- { // each has a page of its own to read
			crowd.Go(func() {
				page, err := p.reader.Forward(t.Context(), from, from+1, Most{Events: 1, Data: pageBytes}, func(*event.Event) bool { return true })
				if err != nil || len(page.Events) != 1 {
					t.Errorf("%+v, %v", page, err)
				}
			})
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, err := p.reader.Forward(ctx, 0, 1, Most{Events: 1, Data: pageBytes}, func(*event.Event) bool { return true }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting behind the crowd: %v", err)
		}
		crowd.Wait()
		if log.most != 4 {
			t.Errorf("%d chunks were read at a time", log.most)
		}
	})
}

func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pastOf(t, &list{}, 4)
		ours := event.NewID(time.Now())
		p.append(
			published(ours, "a.b", "org_a"),
			published("order-1", "a.own", "org_b"),
			published("order-1", "a.first", "org_a", "org_a", "org_b", "org_c"),
			published("order-1", "a.second", "org_a", "org_a", "org_c"),
			published("secret", "a.b", "org_a", "org_c"),
		)
		time.Sleep(time.Hour)
		for i := range 20 {
			p.append(published(fmt.Sprint("x", i), "a.b", "org_a"))
		}
		// Somebody saw our id and used it as theirs; ours is still ours.
		p.append(published(ours, "a.copy", "org_b", "org_a", "org_b"))
		p.feed()
		_, end := p.window.Bounds()
		if start, _ := p.window.Bounds(); start < 10 {
			t.Fatalf("the window holds [%d, %d)", start, end)
		}
		for _, c := range []struct{ id, org, typ string }{
			{"x19", "org_a", "a.b"},
			{"x0", "org_a", "a.b"},
			{"x0", "org_b", ""},
			{ours, "org_a", "a.b"},
			{ours, "org_b", "a.copy"},
			{ours, "org_c", ""},
			{"order-1", "org_b", "a.own"},
			{"order-1", "org_a", "a.second"},
			{"order-1", "org_c", "a.second"},
			{"secret", "org_a", "a.b"},
			{"secret", "org_b", ""},
			{"secret", "org_c", "a.b"},
			{event.NewID(time.Now()), "org_a", ""},
			{event.NewID(time.Now().Add(-time.Hour)), "org_a", ""},
			{"nothing", "org_a", ""},
		} {
			ev, err := p.reader.Find(t.Context(), c.id, c.org)
			if err != nil || (ev == nil) != (c.typ == "") || ev != nil && ev.Type != c.typ {
				t.Errorf("Find(%s, %s) = %+v, %v; want %q", c.id, c.org, ev, err, c.typ)
			}
		}
	})
}
