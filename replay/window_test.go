package replay

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"sluice/pkg/event"
)

func at(offset int64) *event.Event {
	return &event.Event{Offset: offset, Environment: event.Sandbox, Data: []byte(`{}`)}
}

func offsets(events []*event.Event) []int64 {
	out := []int64{}
	for _, ev := range events {
		out = append(out, ev.Offset)
	}
	return out
}

// walkUp and walkDown read the whole of [from, to) that the window has.
func walkUp(w *Window, from, to int64, step int) (events []*event.Event, next int64) {
	buf := make([]*event.Event, step)
	for from < to {
		n, next, ok := w.ascend(buf, from, to)
		if !ok {
			break
		}
		events, from = append(events, buf[:n]...), next
	}
	return events, from
}

func walkDown(w *Window, from, to int64, step int) (events []*event.Event, next int64) {
	buf := make([]*event.Event, step)
	for from < to {
		n, next, ok := w.descend(buf, from, to)
		if !ok {
			break
		}
		events, to = append(events, buf[:n]...), next
	}
	slices.Reverse(events)
	return events, to
}

func TestWindowWalks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		w := NewWindow(1<<rnd.IntN(7), 0)
		next := int64(rnd.IntN(50))
		w.Reset(next)
		var all []int64
		for range rnd.IntN(20) {
			var batch []*event.Event
			for range rnd.IntN(12) {
				next += int64(rnd.IntN(3)) // holes
				batch = append(batch, at(next))
				all = append(all, next)
				next++
			}
			next += int64(rnd.IntN(2))
			w.Append(batch, next)
		}
		start, end := w.Bounds()
		if end != next {
			t.Fatalf("end %d, want %d", end, next)
		}
		held, _ := w.Events()
		if kept := all[len(all)-held:]; held > len(w.ring) || held > 0 && (start > kept[0] || held < len(all) && start <= all[len(all)-held-1]) {
			t.Fatalf("start %d, held %d of %v", start, held, all)
		}
		from := start + int64(rnd.IntN(10))
		to := from + rnd.Int64N(100)
		want := []int64{}
		for _, o := range all {
			if o >= from && o < min(to, end) {
				want = append(want, o)
			}
		}
		step := 1 + rnd.IntN(9)
		up, reached := walkUp(w, from, to, step)
		if from < end && (!slices.Equal(offsets(up), want) || reached != min(to, end)) {
			t.Fatalf("up %v to %d, want %v to %d", offsets(up), reached, want, min(to, end))
		}
		if to > end {
			to = end
		}
		down, reached := walkDown(w, from, to, step)
		if to > from && (!slices.Equal(offsets(down), want) || reached != from) {
			t.Fatalf("down %v to %d, want %v to %d", offsets(down), reached, want, from)
		}
	}
}

func TestWindowBytes(t *testing.T) {
	w := NewWindow(1024, 10_000)
	for i := range int64(100) {
		ev := at(i)
		ev.Data = make([]byte, 2000)
		w.Append([]*event.Event{ev}, i+1)
		if n, bytes := w.Events(); bytes > 10_000 || n > 5 {
			t.Fatalf("%d events, %d bytes", n, bytes)
		}
	}
	huge := at(100)
	huge.Data = make([]byte, 20_000)
	w.Append([]*event.Event{huge}, 101)
	if start, end := w.Bounds(); start != 101 || end != 101 {
		t.Errorf("a window too small for its event spans [%d, %d)", start, end)
	}
	w.Append([]*event.Event{at(101)}, 102)
	if n, _ := w.Events(); n != 1 {
		t.Errorf("%d events", n)
	}
}

func TestWindowBeforeItOpens(t *testing.T) {
	w := NewWindow(4, 0)
	if _, _, ok := w.ascend(make([]*event.Event, 1), 0, 1); ok {
		t.Error("a window that isn't open was read upwards")
	}
	if _, _, ok := w.descend(make([]*event.Event, 1), 0, 1); ok {
		t.Error("a window that isn't open was read downwards")
	}
}

// One goroutine appends while many read: a reader that is overtaken is told, and
// what it gets is never torn.
func TestWindowConcurrently(t *testing.T) {
	w := NewWindow(64, 0)
	w.Reset(0)
	const last = 20_000
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			next := int64(0)
			buf := make([]*event.Event, 16)
			for next < last {
				n, to, ok := w.ascend(buf, next, last)
				if !ok {
					next, _ = w.Bounds() // overtaken, or all caught up
					continue
				}
				for i, ev := range buf[:n] {
					if ev.Offset != next+int64(i) {
						t.Errorf("got %d at %d", ev.Offset, next+int64(i))
						return
					}
				}
				next = to
			}
		})
	}
	for i := range int64(last) {
		w.Append([]*event.Event{at(i)}, i+1)
	}
	readers.Wait()
}

func BenchmarkWindowAppend(b *testing.B) {
	w := NewWindow(0, 0)
	batch := []*event.Event{at(0)}
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		w.Append(batch, i+1)
	}
}
