package lane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// A snapshot is what a lane knows at one moment between two appends. It lies in
// the topic lanes, in records of at most pieceBytes that stand one behind the
// other, and counts only with its last.
//
//	┌─────────┬───┬──────────┬──────┬──────┬───
//	│ version │ S │ n(index) │ last │ n(id)│ a piece of:
//	└─────────┴───┴──────────┴──────┴──────┴───
//	ends      of held, dead, attempts and each tier: what lies below is known
//	tiers     topic, read, window
//	fan-out   its place + 1; 0: none runs here
//	targets   high + 1, seen, shut, since, streak, held, dead letters to be sent again
//
// Times are Unix nanoseconds, 0 for none.
const (
	snapshotVersion = 1
	snapshotKind    = 'S'
	pieceBytes      = 256 << 10
)

var errSnapshot = errors.New("snapshot is damaged")

// addSnapshot adds the lane's state to what is appended next. What gathers there
// already isn't in the log yet, so the snapshot must not claim it: finished is
// what is durable.
func (l *Lane) addSnapshot() {
	body := l.encode(nil)
	id := uint64(time.Now().UnixNano())
	for _, s := range l.sources {
		s.kept = min(s.window.next, s.read)
	}
	for i := 0; ; i++ {
		piece := body[:min(len(body), pieceBytes)]
		body = body[len(piece):]
		b := []byte{snapshotVersion, snapshotKind}
		b = binary.AppendUvarint(b, uint64(i))
		b = append(b, flag(len(body) == 0))
		b = binary.AppendUvarint(b, id)
		b = append(b, piece...)
		l.journal.add(l.partition(delivery.LanesTopic), "", b)
		if i == 0 {
			l.journal.then(entry{lanes: true})
		}
		if len(body) == 0 {
			return
		}
	}
}

func (l *Lane) encode(b []byte) []byte {
	fixed := []string{delivery.HeldTopic, delivery.DeadTopic, delivery.AttemptsTopic}
	for _, topic := range fixed {
		b = binary.AppendVarint(b, l.journal.wrote[topic])
	}
	b = binary.AppendUvarint(b, uint64(len(l.sources)))
	for _, s := range l.sources {
		b = appendText(b, s.topic)
		// What was read and is ours is known: between two appends, nothing of ours is
		// in the log that we weren't told of.
		b = binary.AppendVarint(b, max(s.read, l.journal.wrote[s.topic]))
		b = binary.AppendVarint(b, s.read)
		b = s.window.append(b)
	}
	b = binary.AppendVarint(b, l.fanOut.next.Load()+1)
	b = binary.AppendUvarint(b, uint64(len(l.targets)))
	for _, t := range l.targets {
		b = t.append(b)
	}
	return b
}

func (t *target) append(b []byte) []byte {
	b = appendText(b, t.id)
	b = binary.AppendVarint(b, t.high)
	b = binary.AppendUvarint(b, t.seen)
	b = append(b, flag(t.shut))
	b = appendTime(b, t.since)

	b = binary.AppendUvarint(b, t.streak.epoch)
	b = binary.AppendUvarint(b, uint64(t.streak.count))
	b = append(b, flag(t.streak.refused))
	b = appendTime(b, t.streak.first)
	b = appendTime(b, t.streak.last)

	h := &t.held
	b = binary.AppendVarint(b, h.count)
	if h.count > 0 {
		b = binary.AppendVarint(b, h.next)
		b = binary.AppendVarint(b, h.last)
		n := len(h.done)
		for _, f := range h.order {
			if f.done {
				n++
			}
		}
		b = binary.AppendUvarint(b, uint64(n))
		for off := range h.done {
			b = binary.AppendVarint(b, off)
		}
		for _, f := range h.order {
			if f.done {
				b = binary.AppendVarint(b, f.offset)
			}
		}
	}
	b = append(b, flag(t.again.active))
	if t.again.active {
		b = appendTime(b, t.again.since)
		b = binary.AppendVarint(b, t.again.next)
		b = binary.AppendVarint(b, t.again.end)
	}
	return b
}

// state is what a snapshot says. ends and tiers are by topic.
type state struct {
	found   bool
	at      time.Time // when it was made
	ends    map[string]int64
	tiers   map[string]*source
	fanOut  int64 // -1: none
	targets map[string]*target
}

func decodeState(b []byte) (*state, error) {
	d := &decoder{rest: b}
	st := &state{found: true, ends: make(map[string]int64), tiers: make(map[string]*source), targets: make(map[string]*target)}
	for _, topic := range []string{delivery.HeldTopic, delivery.DeadTopic, delivery.AttemptsTopic} {
		st.ends[topic] = d.varint()
	}
	for range d.count() {
		s := &source{topic: d.text()}
		st.ends[s.topic] = d.varint()
		s.read = d.varint()
		w, err := readWindow(d)
		if err != nil {
			return nil, err
		}
		s.window = w
		st.tiers[s.topic] = s
	}
	st.fanOut = d.varint() - 1
	for range d.count() {
		t := readTarget(d)
		if d.err != nil {
			break
		}
		st.targets[t.id] = t
	}
	if d.err == nil && len(d.rest) > 0 {
		d.err = errSnapshot
	}
	return st, d.err
}

func readTarget(d *decoder) *target {
	t := newTarget(d.text())
	t.high, t.seen, t.shut, t.since = d.varint(), d.uvarint(), d.flag(), d.time()
	t.streak = streak{epoch: d.uvarint(), count: d.count(), refused: d.flag(), first: d.time(), last: d.time()}
	h := &t.held
	if h.count = d.varint(); h.count > 0 {
		h.next, h.last = d.varint(), d.varint()
		h.fed = h.next
		h.done = make(map[int64]struct{})
		for range d.count() {
			h.done[d.varint()] = struct{}{}
		}
	}
	if d.flag() {
		t.again = again{active: true, since: d.time(), next: d.varint(), end: d.varint()}
	}
	return t
}

// loadSnapshot finds the newest whole snapshot of the lane; where there is none
// the state is empty.
func (l *Lane) loadSnapshot(ctx context.Context) (*state, error) {
	var whole, part []byte
	var id uint64
	var at time.Time
	next, found := -1, false // next is the index that the part at hand needs
	err := l.scan(ctx, delivery.LanesTopic, -1, func(r *eventlog.Record) error {
		d := &decoder{rest: r.Value}
		version, kind, index, last, of := d.byte(), d.byte(), d.count(), d.flag(), d.uvarint()
		switch {
		case d.err != nil || kind != snapshotKind:
			next = -1
			return nil // not ours to judge: one that is damaged doesn't count
		case version != snapshotVersion:
			return fmt.Errorf("snapshot of version %d at offset %d: a newer release wrote it", version, r.Offset)
		case index == 0:
			part, id, next = part[:0], of, 0
		case index != next || of != id:
			next = -1
			return nil
		}
		part = append(part, d.rest...)
		next++
		if last {
			whole, found, next = append(whole[:0], part...), true, -1
			at = time.Unix(0, int64(id))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return &state{at: time.Now(), fanOut: -1}, nil
	}
	st, err := decodeState(whole)
	if err != nil {
		return nil, fmt.Errorf("read the newest snapshot: %w", err)
	}
	st.at = at
	return st, nil
}

// trim gives up what the snapshot whose first record is durable at the offset
// makes needless.
func (l *Lane) trim(snapshot int64) {
	type cut struct {
		topic  string
		before int64
	}
	cuts := []cut{{delivery.LanesTopic, snapshot}}
	if l.cfg.Trim {
		for _, s := range l.sources {
			if s.trimmed < s.kept {
				cuts = append(cuts, cut{s.topic, s.kept})
				s.trimmed = s.kept
			}
		}
	}
	l.run(func(ctx context.Context) {
		for _, c := range cuts {
			if err := l.cfg.Log.Trim(ctx, l.partition(c.topic), c.before); err != nil && ctx.Err() == nil {
				l.log.Error("finished records can't be trimmed", "topic", c.topic, "before", c.before, "error", err)
			}
		}
	})
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// decoder takes members off the front of rest; once something is wrong, all
// further ones are zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.err = errSnapshot
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) flag() bool { return d.byte() == 1 }

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.rest, d.err = nil, errSnapshot
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.rest, d.err = nil, errSnapshot
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count reads a number of members, of which each takes a byte or more.
func (d *decoder) count() int {
	v := d.uvarint()
	if v > uint64(len(d.rest))+1<<20 {
		d.rest, d.err = nil, errSnapshot
		return 0
	}
	return int(v)
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.rest, d.err = nil, errSnapshot
		return ""
	}
	s := string(d.rest[:n])
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) time() time.Time {
	if ns := d.varint(); ns != 0 {
		return time.Unix(0, ns).UTC()
	}
	return time.Time{}
}
