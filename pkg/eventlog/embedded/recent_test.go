package embedded

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"sluice/pkg/eventlog"
)

// Whatever the sizes of appends and however far tails are behind, each sees what
// Read gives: all records, once, in order.
func TestTailsOfAllSpeeds(t *testing.T) {
	topic := eventlog.Topic{Name: "a", Partitions: 2}
	l, err := Open(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "log"), Topics: []eventlog.Topic{topic}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := eventlog.Partition{Topic: "a", Number: 1}
	const total = 3000
	var tails sync.WaitGroup
	seen := make([][]eventlog.Record, 4)
	for n := range seen {
		tail, err := l.Tail(t.Context(), p, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		tails.Go(func() {
			for len(seen[n]) < total {
				records, err := tail.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				seen[n] = append(seen[n], records...)
				if n > 0 && rand.IntN(10*n) == 0 { // this one falls behind
					if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: "a"}, Value: make([]byte, 100<<10)}}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for done := 0; done < total; {
		records := make([]eventlog.Record, min(1+rand.IntN(40)*rand.IntN(3), total-done))
		for i := range records {
			records[i] = eventlog.Record{Partition: p, Value: fmt.Appendf(nil, "%d %*d", done+i, rand.IntN(3000), 0)}
			if rand.IntN(2) == 0 {
				records[i].Key = fmt.Append(nil, "key ", done+i)
			}
		}
		if _, err := l.Append(t.Context(), records); err != nil {
			t.Fatal(err)
		}
		done += len(records)
	}
	tails.Wait()
	want, err := l.Read(t.Context(), p, 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for n, got := range seen {
		if !slices.EqualFunc(got, want, same) {
			t.Errorf("tail %d sees other records than Read", n)
		}
	}
}

func same(a, b eventlog.Record) bool {
	return a.Partition == b.Partition && a.Offset == b.Offset && a.Time.Equal(b.Time) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value)
}

// Tails that keep up share one copy of a record; nothing is kept that nobody
// follows, nor more than its bound.
func TestTailsShareWhatIsNew(t *testing.T) {
	l, err := Open(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "log"), Topics: []eventlog.Topic{{Name: "a", Partitions: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	name := eventlog.Partition{Topic: "a"}
	p := l.partitions[name]
	put := func(value []byte) {
		t.Helper()
		if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: name, Value: value}}); err != nil {
			t.Fatal(err)
		}
	}
	put([]byte("nobody follows"))
	if p.recent.records != nil {
		t.Error("kept for nobody")
	}
	var tails [2]eventlog.Tail
	for n := range tails {
		if tails[n], err = l.Tail(t.Context(), name, 1); err != nil {
			t.Fatal(err)
		}
	}
	var got [2][]eventlog.Record
	put([]byte("one"))
	for n := range tails {
		if got[n], err = tails[n].Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if &got[0][0].Value[0] != &got[1][0].Value[0] {
		t.Error("each tail has a copy")
	}
	for range 100 {
		if put(make([]byte, 1000)); p.recent.bytes > recentBytes || len(p.recent.records) == 0 {
			t.Fatalf("%d records of %d bytes are kept", len(p.recent.records), p.recent.bytes)
		}
	}
	if put(make([]byte, recentBytes+1)); p.recent.records != nil {
		t.Error("more than the bound is kept")
	}
	put([]byte("small"))
	for n := range tails {
		tails[n].Close()
		tails[n].Close()
	}
	if p.recent.records != nil || p.recent.tails.Load() != 0 {
		t.Error("kept although nobody follows any more")
	}
}

// A tail that comes while a batch is made has the end of that batch kept, and not
// what lies before: nobody is given the one for the other.
func TestWhatIsKeptHasNoHole(t *testing.T) {
	p := &partition{Partition: eventlog.Partition{Topic: "a"}}
	gather := func(n int) {
		for range n {
			p.gather(&eventlog.Record{Value: []byte("x")}, p.next, 0)
			p.next++
		}
	}
	p.follow()
	gather(1)
	p.publish()
	p.recent.tails.Add(-1) // it goes: unfollow waits for p.mu
	gather(1)
	p.follow() // and another comes
	gather(1)
	p.publish()
	if got := p.newest(1); got != nil {
		t.Errorf("offset %d for 1", got[0].Offset)
	}
	if got := p.newest(2); len(got) != 1 || got[0].Offset != 2 {
		t.Errorf("%v for offset 2", got)
	}
}

// Small records take more than their bytes.
func TestKeptRecordsAreCounted(t *testing.T) {
	p := &partition{}
	p.follow()
	for p.next < 10_000 {
		p.gather(&eventlog.Record{}, p.next, 0)
		p.next++
		p.publish()
		if n := len(p.recent.records); n > recentBytes/100 {
			t.Fatalf("%d records are kept", n)
		}
	}
}
