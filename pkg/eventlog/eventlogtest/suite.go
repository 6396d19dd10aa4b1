package eventlogtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/pkg/eventlog"
)

// Open opens the log that belongs to t. Called again with the same t, after the
// log was closed, it opens the same one again; another t has another log. It
// fails the test where it can't, and closes the log when the test ends.
type Open func(t testing.TB, topics []eventlog.Topic) eventlog.Log

// patience is how long anything may take that should happen at once.
const patience = 20 * time.Second

// Run holds a log to everything that package eventlog promises.
func Run(t *testing.T, open func(t testing.TB, topics []eventlog.Topic) eventlog.Log) {
	for _, c := range []struct {
		name string
		run  func(*suite)
	}{
		{"Empty", testEmpty},
		{"Append", testAppend},
		{"AppendManyPartitions", testAppendManyPartitions},
		{"AppendConcurrently", testAppendConcurrently},
		{"AppendRefuses", testAppendRefuses},
		{"AppendCancelled", testAppendCancelled},
		{"AppendLargest", testAppendLargest},
		{"BytesAreTheCallers", testBytes},
		{"ReadBounds", testReadBounds},
		{"ReadMaxBytes", testReadMaxBytes},
		{"OffsetAt", testOffsetAt},
		{"OffsetAtEqualTimes", testOffsetAtEqualTimes},
		{"OffsetAtAfterTrim", testOffsetAtAfterTrim},
		{"Trim", testTrim},
		{"TrimRefuses", testTrimRefuses},
		{"TailFromTheStart", testTailFromStart},
		{"TailsSideBySide", testTails},
		{"TailBounds", testTailBounds},
		{"TailCancelled", testTailCancelled},
		{"TailClosed", testTailClosed},
		{"TailAcrossTrim", testTailAcrossTrim},
		{"TailNobodyReads", testTailIdle},
		{"Own", testOwn},
		{"OwnAgain", testOwnAgain},
		{"Closed", testClosed},
		{"CloseWhileTailing", testCloseWhileTailing},
		{"Reopen", testReopen},
		{"ReopenEmptied", testReopenEmptied},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			c.run(&suite{T: t, ctx: ctx, open: open})
		})
	}
}

// suite is one test of a log.
type suite struct {
	*testing.T
	ctx  context.Context
	open Open
	log  eventlog.Log
}

var (
	a0 = eventlog.Partition{Topic: "a", Number: 0}
	a1 = eventlog.Partition{Topic: "a", Number: 1}
	b0 = eventlog.Partition{Topic: "b", Number: 0}

	twoTopics = []eventlog.Topic{
		{Name: "a", Partitions: 2, Retention: 24 * time.Hour},
		{Name: "b", Partitions: 1},
	}
)

// start opens the log with topics a, of two partitions, and b, of one.
func (s *suite) start() { s.log = s.open(s.T, twoTopics) }

func (s *suite) reopen() {
	s.Helper()
	if err := s.log.Close(); err != nil {
		s.Fatalf("Close: %v", err)
	}
	s.start()
}

// append adds records with the values to the partition.
func (s *suite) append(p eventlog.Partition, values ...string) []int64 {
	s.Helper()
	recs := make([]eventlog.Record, len(values))
	for i, v := range values {
		recs[i] = eventlog.Record{Partition: p, Value: []byte(v)}
	}
	offsets, err := s.log.Append(s.ctx, recs)
	if err != nil {
		s.Fatalf("Append: %v", err)
	}
	if len(offsets) != len(recs) {
		s.Fatalf("Append of %d records gave %d offsets", len(recs), len(offsets))
	}
	return offsets
}

// appendLater adds a record whose time is later than all before it.
func (s *suite) appendLater(p eventlog.Partition, value string, after time.Time) eventlog.Record {
	s.Helper()
	for time.Now().UnixMilli() <= after.UnixMilli()+1 {
		select {
		case <-s.ctx.Done():
			s.Fatal(s.ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	rec := s.at(p, s.append(p, value)[0])
	if !rec.Time.After(after) {
		s.Fatalf("a record appended after %v has time %v", after, rec.Time)
	}
	return rec
}

func (s *suite) bounds(p eventlog.Partition) (start, end int64) {
	s.Helper()
	start, end, err := s.log.Bounds(s.ctx, p)
	if err != nil {
		s.Fatalf("Bounds: %v", err)
	}
	return start, end
}

func (s *suite) wantBounds(p eventlog.Partition, start, end int64) {
	s.Helper()
	if gotStart, gotEnd := s.bounds(p); gotStart != start || gotEnd != end {
		s.Fatalf("bounds of %v are %d to %d, want %d to %d", p, gotStart, gotEnd, start, end)
	}
}

// at reads the record at the offset.
func (s *suite) at(p eventlog.Partition, offset int64) eventlog.Record {
	s.Helper()
	recs, err := s.log.Read(s.ctx, p, offset, 1)
	if err != nil || len(recs) == 0 || recs[0].Offset != offset {
		s.Fatalf("Read of offset %d: %d records, %v", offset, len(recs), err)
	}
	return recs[0]
}

// all reads from the offset to the end and checks what holds for all records.
func (s *suite) all(p eventlog.Partition, from int64, maxBytes int) []eventlog.Record {
	s.Helper()
	_, end := s.bounds(p)
	var all []eventlog.Record
	for from < end {
		recs, err := s.log.Read(s.ctx, p, from, maxBytes)
		if err != nil || len(recs) == 0 {
			s.Fatalf("Read from %d of %d: %d records, %v", from, end, len(recs), err)
		}
		all = append(all, recs...)
		from = recs[len(recs)-1].Offset + 1
	}
	s.checkOrder(p, all)
	return all
}

func (s *suite) checkOrder(p eventlog.Partition, recs []eventlog.Record) {
	s.Helper()
	for i, r := range recs {
		switch {
		case r.Partition != p:
			s.Fatalf("a record of %v was read from %v", r.Partition, p)
		case r.Time.Location() != time.UTC || r.Time.Nanosecond()%int(time.Millisecond) != 0:
			s.Fatalf("offset %d has time %v, want UTC milliseconds", r.Offset, r.Time)
		case time.Since(r.Time).Abs() > time.Hour:
			s.Fatalf("offset %d has time %v, want about now", r.Offset, r.Time)
		case i > 0 && r.Offset <= recs[i-1].Offset:
			s.Fatalf("offset %d comes after %d", r.Offset, recs[i-1].Offset)
		case i > 0 && r.Time.Before(recs[i-1].Time):
			s.Fatalf("offset %d has time %v, before %v of the one before it", r.Offset, r.Time, recs[i-1].Time)
		}
	}
}

func values(recs []eventlog.Record) []string {
	out := make([]string, len(recs))
	for i, r := range recs {
		out[i] = string(r.Value)
	}
	return out
}

func (s *suite) wantValues(recs []eventlog.Record, want ...string) {
	s.Helper()
	if got := values(recs); !slices.Equal(got, want) {
		s.Fatalf("got %.200q, want %.200q", got, want)
	}
}

func (s *suite) wantError(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("%s: %v, want %v", what, err, want)
	}
}

// numbered gives n values: prefix0, prefix1, …
func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return out
}

func testEmpty(s *suite) {
	s.start()
	s.wantBounds(a0, 0, 0)
	if recs, err := s.log.Read(s.ctx, a0, 0, 1<<20); err != nil || len(recs) != 0 {
		s.Fatalf("Read at the end: %d records, %v", len(recs), err)
	}
	if at, err := s.log.OffsetAt(s.ctx, a0, time.Now().Add(-time.Hour)); err != nil || at != 0 {
		s.Fatalf("OffsetAt: %d, %v", at, err)
	}
	if offsets, err := s.log.Append(s.ctx, nil); err != nil || len(offsets) != 0 {
		s.Fatalf("Append of nothing: %v, %v", offsets, err)
	}
	_, err := s.log.Read(s.ctx, a0, 1, 1<<20)
	s.wantError("Read past the end", err, eventlog.ErrPastEnd)
}

func testAppend(s *suite) {
	s.start()
	if got := s.append(a0, "x", "y"); !slices.Equal(got, []int64{0, 1}) {
		s.Fatalf("offsets %v, want 0 1", got)
	}
	offsets, err := s.log.Append(s.ctx, []eventlog.Record{
		{Partition: a1, Key: []byte("k"), Value: []byte("v")},
		{Partition: a0, Value: []byte("z")},
		{Partition: b0, Key: []byte("only a key")},
		{Partition: a1},
	})
	if err != nil || !slices.Equal(offsets, []int64{0, 2, 0, 1}) {
		s.Fatalf("offsets %v, %v; want 0 2 0 1", offsets, err)
	}
	s.wantBounds(a0, 0, 3)
	s.wantBounds(a1, 0, 2)
	s.wantBounds(b0, 0, 1)
	s.wantValues(s.all(a0, 0, 1<<20), "x", "y", "z")
	s.wantValues(s.all(a0, 1, 1<<20), "y", "z")
	got := s.all(a1, 0, 1<<20)
	s.wantValues(got, "v", "")
	if string(got[0].Key) != "k" || len(got[1].Key) != 0 {
		s.Fatalf("keys %q and %q, want k and none", got[0].Key, got[1].Key)
	}
	if got := s.at(b0, 0); string(got.Key) != "only a key" || len(got.Value) != 0 {
		s.Fatalf("key %q, value %q", got.Key, got.Value)
	}
}

func testAppendManyPartitions(s *suite) {
	topics := []eventlog.Topic{{Name: "x", Partitions: 16}, {Name: "y", Partitions: 16}, {Name: "z.z", Partitions: 3}}
	s.log = s.open(s.T, topics)
	want := make(map[eventlog.Partition][]string)
	var recs []eventlog.Record
	for i := range 10 {
		for _, t := range topics {
			for n := range t.Partitions {
				p := eventlog.Partition{Topic: t.Name, Number: n}
				v := fmt.Sprintf("%s %d %d", t.Name, n, i)
				recs = append(recs, eventlog.Record{Partition: p, Value: []byte(v)})
				want[p] = append(want[p], v)
			}
		}
	}
	offsets, err := s.log.Append(s.ctx, recs)
	if err != nil {
		s.Fatalf("Append: %v", err)
	}
	next := make(map[eventlog.Partition]int64)
	for i, r := range recs {
		if offsets[i] != next[r.Partition] {
			s.Fatalf("record %d of %v got offset %d, want %d", i, r.Partition, offsets[i], next[r.Partition])
		}
		next[r.Partition]++
	}
	for p, v := range want {
		s.wantValues(s.all(p, 0, 1<<20), v...)
	}
}

// What one writer appends keeps its order, and every offset given is that of the
// record it was given for.
func testAppendConcurrently(s *suite) {
	s.start()
	const writers, rounds = 16, 25
	var (
		mu  sync.Mutex
		at  = make(map[eventlog.Partition]map[int64]string)
		wg  sync.WaitGroup
		all = []eventlog.Partition{a0, a1, b0}
	)
	for _, p := range all {
		at[p] = make(map[int64]string)
	}
	for w := range writers {
		wg.Go(func() {
			last := map[eventlog.Partition]int64{a0: -1, a1: -1, b0: -1}
			for r := range rounds {
				recs := make([]eventlog.Record, 4)
				for i := range recs {
					recs[i] = eventlog.Record{Partition: all[(w+i)%3], Value: fmt.Appendf(nil, "%d %d %d", w, r, i)}
				}
				offsets, err := s.log.Append(s.ctx, recs)
				if err != nil {
					s.Errorf("Append: %v", err)
					return
				}
				mu.Lock()
				for i, o := range offsets {
					p := recs[i].Partition
					if o <= last[p] {
						s.Errorf("writer %d got offset %d of %v after %d", w, o, p, last[p])
					}
					if v, taken := at[p][o]; taken {
						s.Errorf("offset %d of %v was given to %q and %q", o, p, v, recs[i].Value)
					}
					last[p] = o
					at[p][o] = string(recs[i].Value)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, p := range all {
		recs := s.all(p, 0, 4<<10)
		if len(recs) != len(at[p]) {
			s.Errorf("%v has %d records, want %d", p, len(recs), len(at[p]))
		}
		for _, r := range recs {
			if at[p][r.Offset] != string(r.Value) {
				s.Errorf("offset %d of %v is %q, want %q", r.Offset, p, r.Value, at[p][r.Offset])
			}
		}
	}
}

func testAppendRefuses(s *suite) {
	s.start()
	good := eventlog.Record{Partition: a0, Value: []byte("good")}
	for what, bad := range map[string][]eventlog.Record{
		"an unknown topic":     {good, {Partition: eventlog.Partition{Topic: "none"}}},
		"an unknown partition": {good, {Partition: eventlog.Partition{Topic: "a", Number: 2}}},
		"a negative partition": {good, {Partition: eventlog.Partition{Topic: "a", Number: -1}}},
		"a record too large":   {good, {Partition: a0, Key: []byte("k"), Value: make([]byte, eventlog.MaxRecord)}},
		"too much at once":     slices.Repeat([]eventlog.Record{{Partition: a0, Value: make([]byte, eventlog.MaxRecord)}}, eventlog.MaxAppend/eventlog.MaxRecord+1),
	} {
		if offsets, err := s.log.Append(s.ctx, bad); err == nil {
			s.Errorf("%s was appended: %v", what, offsets)
		}
	}
	s.wantBounds(a0, 0, 0)
	for what, p := range map[string]eventlog.Partition{"topic": {Topic: "none"}, "partition": {Topic: "a", Number: 2}} {
		if _, _, err := s.log.Bounds(s.ctx, p); err == nil {
			s.Errorf("an unknown %s has bounds", what)
		}
		if _, err := s.log.Read(s.ctx, p, 0, 1); err == nil {
			s.Errorf("an unknown %s can be read", what)
		}
		if _, err := s.log.OffsetAt(s.ctx, p, time.Now()); err == nil {
			s.Errorf("an unknown %s has an offset", what)
		}
		if tail, err := s.log.Tail(s.ctx, p, 0); err == nil {
			tail.Close()
			s.Errorf("an unknown %s can be followed", what)
		}
		if err := s.log.Trim(s.ctx, p, 0); err == nil {
			s.Errorf("an unknown %s can be trimmed", what)
		}
	}
}

func testAppendCancelled(s *suite) {
	s.start()
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.log.Append(ctx, []eventlog.Record{{Partition: a0, Value: []byte("never")}})
	s.wantError("Append", err, context.Canceled)
	s.wantBounds(a0, 0, 0)

	// Those whose context ends while they wait leave, and nobody else notices.
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				ctx, cancel := context.WithTimeout(s.ctx, patience)
				if w%2 == 0 {
					cancel()
					ctx, cancel = context.WithTimeout(s.ctx, time.Duration(i)*50*time.Microsecond)
				}
				_, err := s.log.Append(ctx, []eventlog.Record{{Partition: a1, Value: fmt.Appendf(nil, "%d %d", w, i)}})
				if err != nil && (w%2 != 0 || !errors.Is(err, context.DeadlineExceeded)) {
					s.Errorf("Append: %v", err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	seen := make(map[string]bool)
	for _, r := range s.all(a1, 0, 1<<20) {
		if seen[string(r.Value)] {
			s.Errorf("%q is there twice", r.Value)
		}
		seen[string(r.Value)] = true
	}
	for w := 1; w < 8; w += 2 {
		for i := range 20 {
			if v := fmt.Sprintf("%d %d", w, i); !seen[v] {
				s.Errorf("%q was acknowledged and isn't there", v)
			}
		}
	}
}

func testAppendLargest(s *suite) {
	s.start()
	key := bytes.Repeat([]byte("k"), 1000)
	value := make([]byte, eventlog.MaxRecord-len(key))
	for i := range value {
		value[i] = byte(i * 7 >> (i % 5)) // not for compressing
	}
	if _, err := s.log.Append(s.ctx, []eventlog.Record{{Partition: a0, Key: key, Value: value}}); err != nil {
		s.Fatalf("Append of MaxRecord bytes: %v", err)
	}
	if got := s.at(a0, 0); !bytes.Equal(got.Key, key) || !bytes.Equal(got.Value, value) {
		s.Fatal("the largest record came back changed")
	}
	const n = eventlog.MaxAppend / eventlog.MaxRecord
	if _, err := s.log.Append(s.ctx, slices.Repeat([]eventlog.Record{{Partition: a1, Key: key, Value: value}}, n)); err != nil {
		s.Fatalf("Append of %d records of MaxRecord bytes: %v", n, err)
	}
	if got := s.all(a1, 0, 4<<20); len(got) != n {
		s.Fatalf("%d records, want %d", len(got), n)
	}
}

func testBytes(s *suite) {
	s.start()
	rec := []eventlog.Record{{Partition: a0, Key: []byte("key"), Value: []byte("value")}}
	if _, err := s.log.Append(s.ctx, rec); err != nil {
		s.Fatalf("Append: %v", err)
	}
	clear(rec[0].Key)
	clear(rec[0].Value)
	for range 2 {
		got := s.at(a0, 0)
		if string(got.Key) != "key" || string(got.Value) != "value" {
			s.Fatalf("key %q, value %q after somebody wrote into their own bytes", got.Key, got.Value)
		}
		_ = append(got.Key, "!!!!"...)
		clear(got.Key)
		clear(got.Value)
	}
}

func testReadBounds(s *suite) {
	s.start()
	s.append(a0, numbered("v", 10)...)
	if err := s.log.Trim(s.ctx, a0, 4); err != nil {
		s.Fatalf("Trim: %v", err)
	}
	for _, c := range []struct {
		from int64
		want error
	}{{-1, eventlog.ErrTooOld}, {0, eventlog.ErrTooOld}, {3, eventlog.ErrTooOld}, {11, eventlog.ErrPastEnd}, {1 << 40, eventlog.ErrPastEnd}} {
		_, err := s.log.Read(s.ctx, a0, c.from, 1<<20)
		s.wantError(fmt.Sprintf("Read from %d of 4 to 10", c.from), err, c.want)
	}
	s.wantValues(s.all(a0, 4, 1<<20), numbered("v", 10)[4:]...)
	if recs, err := s.log.Read(s.ctx, a0, 10, 1<<20); err != nil || len(recs) != 0 {
		s.Fatalf("Read at the end: %d records, %v", len(recs), err)
	}
}

func testReadMaxBytes(s *suite) {
	s.start()
	const size, n = 1000, 200
	var want []string
	for i := range n {
		want = append(want, fmt.Sprintf("%0*d", size, i))
	}
	s.append(a0, want[:n/2]...)
	for _, v := range want[n/2:] {
		s.append(a0, v)
	}
	for _, maxBytes := range []int{0, 1, size, 10 * size, 1 << 30} {
		recs, err := s.log.Read(s.ctx, a0, 0, maxBytes)
		if err != nil || len(recs) == 0 {
			s.Fatalf("Read of %d bytes: %d records, %v", maxBytes, len(recs), err)
		}
		if most := maxBytes/size + 1; len(recs) > most {
			s.Errorf("Read of %d bytes gave %d records of %d", maxBytes, len(recs), size)
		}
	}
	s.wantValues(s.all(a0, 0, 7*size), want...)
	s.wantValues(s.all(a0, 150, 1), want[150:]...)
}
