package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dto "github.com/prometheus/client_model/go"

	"sluice/pkg/event"
)

// Whatever spans are read at the same time, and however pages come and go, each
// reader sees every event of its span, once.
func TestPages(t *testing.T) {
	p := newPast(t, 0)
	const total = 6000
	var all []*event.Event
	for i := range total {
		ev := published(fmt.Sprint(i), "a.b", "org_a")
		ev.Data = []byte(`{"pad":"` + strings.Repeat("x", 8<<(i%10)) + `"}`)
		if i%97 == 0 {
			ev = nil
		}
		all = append(all, ev)
	}
	p.append(all...)
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 9))
			for range 60 {
				from := rnd.Int64N(total)
				to := from + rnd.Int64N(min(total+1-from, 1000))
				at := from
				next, err := p.reader.ascend(t.Context(), from, to, func(ev *event.Event) bool {
					if at%97 == 0 {
						at++
					}
					if ev.Offset != at || ev.ID != fmt.Sprint(at) {
						t.Errorf("[%d, %d): %d instead of %d", from, to, ev.Offset, at)
						return false
					}
					at++
					return true
				})
				if err != nil || next != to && !t.Failed() {
					t.Errorf("[%d, %d): to %d, %v", from, to, next, err)
				}
			}
		})
	}
	readers.Wait()
	weight := 0
	for i, page := range p.reader.pages.kept {
		weight += page.weight
		if i > 0 && p.reader.pages.kept[i-1].next > page.from {
			t.Errorf("pages overlap at %d", page.from)
		}
	}
	if weight != p.reader.pages.weight || weight > pagesKept {
		t.Errorf("they weigh %d, and %d is said", weight, p.reader.pages.weight)
	}
}

// A crowd that comes back with cursors near one another reads no part of the log twice:
// it is read once if the first of them is furthest behind, and up to where others are
// reading from if that one comes last. What nobody uses any more is given up.
func TestCrowdSharesPages(t *testing.T) {
	const total, starts = 300, 100
	for name, c := range map[string]struct {
		start func(i int) int64
		read  float64
	}{
		"oldest first": {func(i int) int64 { return total - 2*starts + int64(i%starts) }, 1},
		"oldest last":  {func(i int) int64 { return total - starts - 1 - int64(i%starts) }, starts},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &list{slow: time.Millisecond}
				p := pastOf(t, log, 0)
				for i := range total {
					p.append(published(fmt.Sprint(i), "a.b", "org_a"))
				}
				var crowd sync.WaitGroup
				for i := range 20 * starts {
					from := c.start(i)
					crowd.Go(func() {
						page, err := p.reader.Forward(t.Context(), from, total, Most{Events: 1000, Data: pageBytes}, func(*event.Event) bool { return true })
						if err != nil || len(page.Events) != total-int(from) {
							t.Errorf("from %d: %d events, %v", from, len(page.Events), err)
						}
					})
					synctest.Wait() // all of them come before anything was read
				}
				crowd.Wait()
				if read := wantedFrom(t, p.reader, "log"); read != c.read {
					t.Errorf("the log was read %v times, and %v would do", read, c.read)
				}
				time.Sleep(3 * pagesFor)
				p.reader.pages.mu.Lock()
				defer p.reader.pages.mu.Unlock()
				if p.reader.pages.kept != nil || p.reader.pages.weight != 0 || len(p.reader.pages.reading) > 0 {
					t.Error("pages are kept for nobody")
				}
			})
		})
	}
}

// TestReach: who reads so far behind a page that is being read that it won't be in there
// isn't made to wait for it, and who reads near it is.
func TestReach(t *testing.T) {
	for name, c := range map[string]struct {
		behind int64
		took   time.Duration
		read   float64
	}{
		"near": {1, time.Second, 1},
		"far":  {40, time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &list{slow: time.Second}
				p := pastOf(t, log, 0)
				for i := range 100 {
					ev := published(fmt.Sprint(i), "a.b", "org_a")
					ev.Data = []byte(`{"pad":"` + strings.Repeat("x", readBytes/8) + `"}`)
					p.append(ev)
				}
				read := func(from int64) {
					page, err := p.reader.Forward(t.Context(), from, from+1, Most{}, func(*event.Event) bool { return true })
					if err != nil || len(page.Events) != 1 {
						t.Errorf("from %d: %d events, %v", from, len(page.Events), err)
					}
				}
				read(0) // how much a page holds is known from now on
				before := wantedFrom(t, p.reader, "log")

				began := time.Now()
				var first sync.WaitGroup
				first.Go(func() { read(20) })
				synctest.Wait()
				read(20 + c.behind)
				if took := time.Since(began); took != c.took {
					t.Errorf("it took %v, not %v", took, c.took)
				}
				first.Wait()
				if n := wantedFrom(t, p.reader, "log") - before; n != c.read {
					t.Errorf("the log was read %v times, not %v", n, c.read)
				}
			})
		})
	}
}

// Who waits for a page that can't be read, or that another gave up, reads it for itself.
func TestPageGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pastOf(t, &list{slow: time.Second}, 0)
		p.append(published("evt_1", "a.b", "org_a"))
		leaving, leave := context.WithCancel(t.Context())
		read := func(ctx context.Context) (Page, error) {
			return p.reader.Forward(ctx, 0, 1, Most{}, func(*event.Event) bool { return true })
		}
		for range p.reader.cfg.Scans { // nobody else may read for now
			p.reader.scans <- struct{}{}
		}
		var readers sync.WaitGroup
		readers.Go(func() {
			if _, err := read(leaving); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 10 {
			readers.Go(func() {
				if page, err := read(t.Context()); err != nil || len(page.Events) != 1 {
					t.Errorf("%d events, %v", len(page.Events), err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		for range p.reader.cfg.Scans {
			<-p.reader.scans
		}
		readers.Wait()
	})
}

func wantedFrom(t *testing.T, r *Reader, source string) float64 {
	t.Helper()
	var m dto.Metric
	if err := r.wanted.WithLabelValues(source).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue()
}

// TestForget: what was read of a log that isn't the same any more serves nobody, nor does
// what was being read when that was found.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &list{slow: time.Second}
		p := pastOf(t, log, 0)
		first := func() string {
			page, err := p.reader.Forward(t.Context(), 0, 1, Most{}, func(*event.Event) bool { return true })
			if err != nil || len(page.Events) != 1 {
				t.Errorf("%d events, %v", len(page.Events), err)
				return ""
			}
			return page.Events[0].ID
		}
		p.append(published("evt_before", "a.b", "org_a"))
		first()
		log.mu.Lock()
		log.records = nil
		log.mu.Unlock()
		p.append(published("evt_behind", "a.b", "org_a"))
		p.reader.Forget()
		if id := first(); id != "evt_behind" {
			t.Errorf("%s is read", id)
		}
		p.reader.Forget()
		read := wantedFrom(t, p.reader, "log")
		var reading sync.WaitGroup
		reading.Go(func() { first() })
		time.Sleep(time.Second / 2)
		p.reader.Forget()
		reading.Wait()
		first()
		if n := wantedFrom(t, p.reader, "log") - read; n != 2 {
			t.Errorf("the log was read %v times, and what came of the first was kept", n)
		}
	})
}
