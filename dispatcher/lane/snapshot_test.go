package lane

import (
	"bytes"
	"encoding/binary"
	"testing"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// pieces makes records of lanes: a snapshot's body in two.
func pieces(body []byte) [][]byte {
	half := len(body) / 2
	head := func(index, last byte) []byte {
		return binary.AppendUvarint([]byte{snapshotVersion, snapshotKind, 1, index, last}, 7)
	}
	return [][]byte{append(head(0, 0), body[:half]...), append(head(1, 1), body[half:]...)}
}

func someLane() *Lane {
	l := &Lane{targets: make(map[string]*target)}
	l.journal.init()
	l.journal.wrote[delivery.HeldTopic] = 12
	l.heldMarks = marks{{3, 1}, {9, 4}}
	s := newSource(0)
	s.window, s.read, s.fence = newWindow(5), 90, 4
	s.window.finish(7)
	s.window.finish(80)
	l.sources = []*source{s}
	t := newTarget("wh_1")
	t.high, t.held = 40, held{next: 2, fed: 2, last: 11, count: 3, done: map[int64]struct{}{5: {}}}
	l.targets[t.id] = t
	l.foreign = []string{"Xa part of a later release"}
	return l
}

// FuzzLanes: whatever lies in lanes, reading it ends, without a panic, and what is
// taken for a snapshot can be written again.
func FuzzLanes(f *testing.F) {
	for _, p := range pieces(someLane().encode(nil)) {
		f.Add(p, someLane().encode(nil))
	}
	f.Add([]byte{snapshotVersion, claimKind, 1, 'a'}, []byte("poison"))
	f.Add(bytes.Repeat([]byte{0xff}, 40), bytes.Repeat([]byte{1}, 40))
	f.Fuzz(func(t *testing.T, record, body []byte) {
		fd := finder{next: -1}
		for i, value := range append(pieces(body), record, record) {
			if err := fd.record(&eventlog.Record{Offset: int64(i) + 5, Value: value}); err != nil {
				return
			}
		}
		for _, b := range [][]byte{body, fd.whole} {
			st, err := decodeState(b)
			if err != nil {
				continue
			}
			l := &Lane{targets: st.targets, foreign: st.foreign, heldMarks: st.heldMarks, deadMarks: st.deadMarks, unread: st.unread}
			l.journal.init()
			for _, s := range st.tiers {
				l.sources = append(l.sources, s)
			}
			if _, err := decodeState(l.encode(nil)); err != nil {
				t.Errorf("%q can be read, and not what is written of it: %v", b, err)
			}
		}
	})
}
