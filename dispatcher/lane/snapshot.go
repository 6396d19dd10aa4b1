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
// other, and counts only with its last, and if no claim of a later owner stands
// before that.
//
//	┌─────────┬───┬───────────────┬──────────┬──────┬──────┬───
//	│ version │ S │ n(generation) │ n(index) │ last │ n(id)│ a piece of: n(parts) part…
//	└─────────┴───┴───────────────┴──────────┴──────┴──────┴───
//	parts, each n and so many bytes, of which the first says what it is
//	H   lane      ends of held, dead and attempts, below which all is known; fan-out's place + 1, 0: none
//	              runs here; markers of held, of dead
//	T   tier      topic, end, read, highest generation below read, window
//	E   endpoint  id, high, seen, shut, since, streak, held, dead letters to be sent again, the epoch
//	              in which a delivery ran out of attempts (0: none did; absent in earlier releases), and
//	              up to where the first tier is older than what is held (absent in earlier releases)
//	R   replay    id, endpoint, from, end, next, what is finished above next, delivered, failed, expired
//	O   ordered   endpoint's id; n deliveries in held that failed: offset, attempts, place in the
//	              schedule, due, first failure
//
// Times are Unix nanoseconds, 0 for none. A part's bytes behind those that are
// known, and parts that aren't, are a later release's: they are kept as they are.
const (
	snapshotVersion = 1
	snapshotKind    = 'S'
	pieceBytes      = 256 << 10

	partLane     = 'H'
	partTier     = 'T'
	partEndpoint = 'E'
	partReplay   = 'R'
	partTries    = 'O'
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
		b = binary.AppendUvarint(b, l.journal.generation)
		b = binary.AppendUvarint(b, uint64(i))
		b = append(b, flag(len(body) == 0))
		b = binary.AppendUvarint(b, id)
		b = append(b, piece...)
		l.journal.add(l.partition(delivery.LanesTopic), "", b)
		if len(body) == 0 {
			l.journal.then(entry{pieces: i + 1})
			return
		}
	}
}

// encode adds the parts to b.
func (l *Lane) encode(b []byte) []byte {
	var ordered []*target
	for _, t := range l.targets {
		if len(t.tries) > 0 {
			ordered = append(ordered, t)
		}
	}
	b = binary.AppendUvarint(b, uint64(1+len(l.sources)+len(l.targets)+len(ordered)+len(l.replays.running)+len(l.foreign)))
	var part []byte
	add := func() { b = append(binary.AppendUvarint(b, uint64(len(part))), part...) }

	part = append(part, partLane)
	for _, topic := range []string{delivery.HeldTopic, delivery.DeadTopic, delivery.AttemptsTopic} {
		part = binary.AppendVarint(part, l.journal.wrote[topic])
	}
	part = binary.AppendVarint(part, l.fanOut.next.Load()+1)
	part = l.deadMarks.append(l.heldMarks.append(part))
	part = append(part, l.unread...)
	add()
	for _, s := range l.sources {
		part = appendText(append(part[:0], partTier), s.topic)
		// What was read and is ours is known: between two appends, nothing of ours is
		// in the log that we weren't told of.
		part = binary.AppendVarint(part, max(s.read, l.journal.wrote[s.topic]))
		part = s.append(part)
		add()
	}
	for _, t := range l.targets {
		part = t.append(append(part[:0], partEndpoint))
		add()
	}
	for _, c := range l.replays.running {
		part = c.append(append(part[:0], partReplay))
		add()
	}
	for _, t := range ordered {
		part = t.appendTries(append(part[:0], partTries))
		add()
	}
	for _, other := range l.foreign {
		b = appendText(b, other)
	}
	return b
}

// append adds what is kept of a tier that was read.
func (s *source) append(b []byte) []byte {
	b = binary.AppendVarint(b, s.read)
	b = binary.AppendUvarint(b, uint64(s.fence))
	b = s.window.append(b)
	return append(b, s.unread...)
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
	b = binary.AppendUvarint(b, t.streak.spentIn())
	b = binary.AppendVarint(b, h.after)
	return append(b, t.unread...)
}

// state is what a snapshot says. ends and tiers are by topic.
type state struct {
	found      bool
	generation uint64    // of the owner that made it
	at         time.Time // when it was made
	ends       map[string]int64
	tiers      map[string]*source
	fanOut     int64 // -1: none
	targets    map[string]*target
	replays    []*cursor
	tries      map[string]map[int64]*try // by endpoint

	heldMarks, deadMarks marks
	unread               string   // of the lane's part
	foreign              []string // parts that aren't known
	skip                 bool     // what the log doesn't have any more is given up
}

func decodeState(b []byte) (*state, error) {
	d := &decoder{rest: b}
	st := &state{found: true, fanOut: -1, ends: make(map[string]int64), tiers: make(map[string]*source), targets: make(map[string]*target), tries: make(map[string]map[int64]*try)}
	for range d.count() {
		part := d.text()
		in := &decoder{rest: []byte(part)}
		switch in.byte() {
		case partLane:
			st.readLane(in)
		case partTier:
			s := &source{topic: in.text(), part: part}
			st.ends[s.topic] = in.varint()
			s.decode(in)
			st.tiers[s.topic] = s
		case partEndpoint:
			t := readTarget(in)
			st.targets[t.id] = t
		case partReplay:
			st.replays = append(st.replays, readCursor(in))
		case partTries:
			id, tries := readTries(in)
			st.tries[id] = tries
		default:
			st.foreign = append(st.foreign, part)
		}
		if err := errors.Join(d.err, in.err); err != nil {
			return nil, errSnapshot
		}
	}
	if d.err != nil || len(d.rest) > 0 {
		return nil, errSnapshot
	}
	return st, nil
}

// decode reads what append wrote.
func (s *source) decode(d *decoder) {
	s.read, s.fence = d.varint(), delivery.Fence(d.uvarint())
	w, err := readWindow(d)
	d.err = errors.Join(d.err, err)
	s.window, s.unread = w, string(d.rest)
}

func (st *state) readLane(d *decoder) {
	for _, topic := range []string{delivery.HeldTopic, delivery.DeadTopic, delivery.AttemptsTopic} {
		st.ends[topic] = d.varint()
	}
	st.fanOut = d.varint() - 1
	st.heldMarks, st.deadMarks = readMarks(d), readMarks(d)
	st.unread = string(d.rest)
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
	if len(d.rest) > 0 {
		// An earlier release carries it along, whatever becomes of the streak.
		epoch := d.uvarint()
		t.streak.spent = epoch != 0 && epoch == t.streak.epoch
	}
	if len(d.rest) > 0 {
		h.after = d.varint() // carried along by an earlier release it is too low: then less goes first
	}
	t.unread = string(d.rest)
	return t
}

// loadSnapshot finds the newest whole snapshot of the lane before our claim that
// counts; where there is none the state is empty.
func (l *Lane) loadSnapshot(ctx context.Context) (*state, error) {
	start, _, err := l.cfg.Log.Bounds(ctx, l.partition(delivery.LanesTopic))
	if err != nil {
		return nil, err
	}
	// Behind our claim there can be no snapshots but those of owners before.
	claim := int64(l.journal.generation) - 1
	if start > claim {
		return nil, errUnclaimed
	}
	var f finder
	l.starts[delivery.LanesTopic] = start
	if err := l.scan(ctx, delivery.LanesTopic, start, claim, f.record); err != nil {
		return nil, err
	}
	if !f.found {
		return &state{at: time.Now(), fanOut: -1, skip: f.skip}, nil
	}
	st, err := decodeState(f.whole)
	if err != nil && f.skip {
		l.log.Error("lane skipped a snapshot that can't be read", "error", err)
		return &state{at: time.Now(), fanOut: -1, skip: true}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the newest snapshot: %w", err)
	}
	st.skip = f.skip
	st.generation, st.at = f.generation, time.Unix(0, int64(f.wholeID))
	return st, nil
}

// finder puts the pieces of snapshots together.
type finder struct {
	fence       delivery.Fence
	part, whole []byte
	id, wholeID uint64
	next        int // the index that the part at hand needs; -1: there is none
	found       bool
	skip        bool   // an operator's word stands behind it
	generation  uint64 // of the whole one's owner
}

// record takes the next record of lanes. One that is damaged isn't ours to judge:
// it doesn't count.
func (f *finder) record(r *eventlog.Record) error {
	d := &decoder{rest: r.Value}
	version, kind := d.byte(), d.byte()
	if version == snapshotVersion && kind == claimKind {
		f.fence.Counts(uint64(r.Offset) + 1)
		return nil
	}
	if version == snapshotVersion && kind == skipKind {
		f.skip = true
		return nil
	}
	generation, index, last, id := d.uvarint(), d.count(), d.flag(), d.uvarint()
	switch {
	case kind != snapshotKind:
		return nil
	case version != snapshotVersion:
		return fmt.Errorf("snapshot of version %d at offset %d: a newer release wrote it, upgrade this node", version, r.Offset)
	case d.err != nil:
		f.next = -1
		return nil
	case generation > uint64(r.Offset), !f.fence.Counts(generation):
		return nil // a claim lies before what its owner appends
	case index == 0:
		f.part, f.id, f.next = f.part[:0], id, 0
	case index != f.next || id != f.id:
		f.next = -1
		return nil
	}
	f.part = append(f.part, d.rest...)
	f.next++
	if last {
		f.whole, f.wholeID, f.generation, f.found, f.next = append(f.whole[:0], f.part...), id, generation, true, -1
		f.skip = false
	}
	return nil
}

// trim gives up what a snapshot makes needless that is durable at the offsets,
// once it is known to count: what the lane's next owner needs isn't ours to trim.
func (l *Lane) trim(first, last int64) {
	type cut struct {
		topic  string
		before int64
	}
	cuts := []cut{{delivery.LanesTopic, first}}
	if l.cfg.Trim {
		for _, s := range l.sources {
			if s.trimmed < s.kept {
				cuts = append(cuts, cut{s.topic, s.kept})
				s.trimmed = s.kept
			}
		}
	}
	l.run(func(ctx context.Context) {
		if l.watch.until(ctx, last+1) != nil {
			return
		}
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
