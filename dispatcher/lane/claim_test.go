package lane

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// wholeLane gives a lane that knows a little of everything.
func wholeLane(t *testing.T) *Lane {
	cfg := Config{Delays: []time.Duration{0, 5 * time.Second}}
	cfg.defaults()
	l := newLane(context.Background(), cfg, eventlog.Share{Partition: 3})
	t.Cleanup(l.workers.cut)
	l.journal.generation = 300
	l.journal.wrote = map[string]int64{delivery.HeldTopic: 10, delivery.DeadTopic: 20, delivery.AttemptsTopic: 30}
	l.fanOut.next.Store(77)
	l.heldMarks, l.deadMarks = marks{{3, 7}, {9, 300}}, marks{{19, 300}}
	for i, s := range l.sources {
		s.window = newWindow(int64(100 * i))
		s.window.finish(s.window.next + 5)
		s.read, s.fence = s.window.next+6, 300
	}
	a, b := newTarget("wh_a"), newTarget("wh_b")
	a.high, a.seen, a.shut, a.since = 5, 2, true, time.Unix(1, 2).UTC()
	a.streak = streak{epoch: 2, count: 3, first: time.Unix(3, 0).UTC(), last: time.Unix(4, 0).UTC(), refused: true, spent: true}
	b.held = held{next: 4, fed: 4, last: 9, count: 2, done: map[int64]struct{}{7: {}}}
	b.again = again{active: true, since: time.Unix(5, 0).UTC(), next: 6, end: -1}
	l.targets = map[string]*target{a.id: a, b.id: b}
	return l
}

// learn has the lane know what a snapshot says, as far as a log isn't needed.
func (l *Lane) learn(t *testing.T, body []byte) {
	t.Helper()
	st, err := decodeState(body)
	if err != nil {
		t.Fatal(err)
	}
	l.heldMarks, l.deadMarks, l.unread, l.foreign = st.heldMarks, st.deadMarks, st.unread, st.foreign
	l.fanOut.next.Store(st.fanOut)
	l.targets = st.targets
	for _, s := range l.sources {
		k := st.tiers[s.topic]
		s.window, s.read, s.fence, s.unread = k.window, k.read, k.fence, k.unread
		delete(st.tiers, s.topic)
	}
	for _, s := range st.tiers {
		l.foreign = append(l.foreign, s.part)
	}
}

// parts takes a snapshot apart, in no order.
func parts(t *testing.T, body []byte) []string {
	t.Helper()
	d := &decoder{rest: body}
	var all []string
	for range d.count() {
		all = append(all, d.text())
	}
	if d.err != nil || len(d.rest) > 0 {
		t.Fatalf("%d parts, error %v", len(all), d.err)
	}
	slices.Sort(all)
	return all
}

// What a snapshot says is what the lane knew; and what a later release put into it
// is still there when this one has written the next.
func TestSnapshotKeepsAll(t *testing.T) {
	l := wholeLane(t)
	plain := l.encode(nil)
	st, err := decodeState(plain)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(st.targets, l.targets) || st.fanOut != 77 || st.ends[delivery.DeadTopic] != 20 ||
		!reflect.DeepEqual(st.heldMarks, l.heldMarks) || !reflect.DeepEqual(st.tiers["tier.5s"].window.append(nil), l.sources[1].window.append(nil)) {
		t.Errorf("the snapshot says %+v", st)
	}

	all := parts(t, plain)
	for i := range all {
		all[i] += "and more"
	}
	all = append(all, "Zsomething else", string(binary.AppendVarint(appendText([]byte{partTier}, "tier.9m"), 5))+"\x0a\x03\x0a\x00more")
	newer := binary.AppendUvarint(nil, uint64(len(all)))
	for _, p := range all {
		newer = appendText(newer, p)
	}
	other := wholeLane(t)
	other.learn(t, newer)
	if got, want := parts(t, other.encode(nil)), parts(t, newer); !slices.Equal(got, want) {
		t.Errorf("this release writes\n%q, was\n%q", got, want)
	}
}

// The newest whole snapshot counts that its owner finished before the next one's
// claim, whatever lies between its pieces.
func TestFinder(t *testing.T) {
	claim := appendText(appendText([]byte{snapshotVersion, claimKind}, "o"), "a")
	piece := func(generation uint64, index int, last bool, id uint64, text string) []byte {
		b := binary.AppendUvarint([]byte{snapshotVersion, snapshotKind}, generation)
		b = append(binary.AppendUvarint(b, uint64(index)), flag(last))
		return append(binary.AppendUvarint(b, id), text...)
	}
	for name, c := range map[string]struct {
		records [][]byte // the offset is the generation of a claim, less one; nil: it is trimmed
		want    string
	}{
		"none":               {[][]byte{claim, []byte("else")}, ""},
		"pieces":             {[][]byte{claim, piece(1, 0, false, 5, "a"), piece(1, 1, true, 5, "b")}, "ab"},
		"a zombie's between": {[][]byte{claim, claim, piece(2, 0, false, 5, "a"), piece(1, 0, true, 6, "z"), piece(2, 1, true, 5, "b")}, "ab"},
		"a zombie's last":    {[][]byte{claim, piece(1, 0, true, 5, "a"), claim, piece(3, 0, true, 6, "b"), piece(1, 0, true, 7, "z")}, "b"},
		"cut by a claim":     {[][]byte{claim, piece(1, 0, true, 5, "a"), piece(1, 0, false, 6, "b"), claim, piece(1, 1, true, 6, "c")}, "a"},
		"claim trimmed":      {[][]byte{nil, nil, nil, piece(2, 0, true, 5, "a"), piece(1, 0, true, 6, "z")}, "a"},
		"piece missing":      {[][]byte{claim, piece(1, 0, true, 5, "a"), piece(1, 0, false, 6, "b"), piece(1, 2, true, 6, "c")}, "a"},
	} {
		var f finder
		for i, v := range c.records {
			if v == nil {
				continue
			}
			if err := f.record(&eventlog.Record{Offset: int64(i), Value: v}); err != nil {
				t.Fatal(err)
			}
		}
		if string(f.whole) != c.want || f.found != (c.want != "") {
			t.Errorf("%s: %q, want %q", name, f.whole, c.want)
		}
	}
}

// Marks tell of any record what a reader of the whole partition knows.
func TestMarks(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var m marks
		var fence delivery.Fence
		var generation uint64
		below := int64(rnd.IntN(150))
		type record struct {
			generation uint64
			counts     bool
		}
		records := make(map[int64]record)
		for off := range int64(200) {
			if rnd.IntN(4) == 0 {
				generation += 1 + uint64(rnd.IntN(3))
				fence.Counts(generation)
				m.add(off, generation)
				continue
			}
			g := generation - min(generation, uint64(rnd.IntN(5)))
			records[off] = record{g, fence.Counts(g)}
		}
		m.forget(below)
		d := &decoder{rest: m.append(nil)}
		if again := readMarks(d); d.err != nil || !slices.Equal(again, m) {
			t.Fatalf("seed %d: read %v, want %v: %v", seed, again, m, d.err)
		}
		for off, r := range records {
			if off >= below && m.count(off, r.generation) != r.counts {
				t.Fatalf("seed %d: record %d of generation %d: %v, the marks %v", seed, off, r.generation, !r.counts, m)
			}
		}
	}
}
