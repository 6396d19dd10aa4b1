package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
	"sluice/replay"
)

// patchy is a log that at times can't be read, or begins later.
type patchy struct {
	eventlog.Log
	fails  atomic.Bool
	oldest atomic.Int64
	holds  atomic.Bool
	gate   chan struct{} // set before holds: until it is closed nothing is read
	reads  atomic.Int64
}

func (p *patchy) Read(ctx context.Context, part eventlog.Partition, from int64, bytes int) ([]eventlog.Record, error) {
	if p.fails.Load() {
		return nil, errors.New("no answer")
	}
	if p.holds.Load() {
		select {
		case <-p.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.reads.Add(1)
	records, err := p.Log.Read(ctx, part, from, bytes)
	return records[:min(len(records), chunkEvents)], err // so that the next chunk isn't at hand
}

func (p *patchy) OffsetAt(context.Context, eventlog.Partition, time.Time) (int64, error) {
	return p.oldest.Load(), nil
}

// plain writes data and the names of codes.
var plain = &dialect.SSE{
	AppendData: func(dst []byte, ev *event.Event) []byte { return append(dst, ev.Data...) },
	AppendReply: func(dst []byte, r *dialect.Reply) ([]byte, string) {
		if r.Kind == dialect.ReplyError {
			return append(dst, "{}"...), string(r.Error.Code)
		}
		return dst, ""
	},
}

// line is a hub in a bubble with one reader of events over a pipe, which takes no byte
// before it is read.
type line struct {
	t     *testing.T
	hub   *Hub
	log   *patchy
	conn  *conn
	nc    net.Conn
	br    *bufio.Reader
	began time.Time
	count int
}

// onLine runs f, whose times are virtual, for a reader that resumes there, or -1.
func onLine(t *testing.T, from int64, before int, f func(*line)) {
	types, wrong := parsePatterns([]string{"rfq.*"})
	if wrong != nil {
		t.Fatal(wrong)
	}
	synctest.Test(t, func(t *testing.T) {
		log := &patchy{Log: eventlogtest.Mem(t, eventlog.Topic{Name: event.Sandbox.Topic(), Partitions: 1}, eventlog.Topic{Name: event.Live.Topic(), Partitions: 1})}
		l := &line{t: t, log: log, began: time.Now()}
		l.publish(before, "rfq.created")
		env := event.Sandbox
		windows := map[event.Environment]*replay.Window{env: replay.NewWindow(4, 0)}
		l.hub = New(Config{
			Log: log, Access: anybody{}, SSE: []*dialect.SSE{plain}, Shards: 1, Limits: Limits{QueueEvents: 4}, Windows: windows,
			Past: map[event.Environment]*replay.Reader{env: replay.New(replay.Config{Log: log, Environment: env, Window: windows[env]})},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.hub.Run(ctx) }()
		<-l.hub.Ready()
		ours, theirs := net.Pipe()
		l.nc, l.br = theirs, bufio.NewReaderSize(theirs, 64)
		l.conn = l.hub.welcome(0, "org_a", 1)
		l.conn.joins = func() {
			l.conn.join(&key.Principal{Org: "org_a", Environment: env, KeyID: "key_a"}, "", types, from, nil)
		}
		go l.hub.serve(l.conn, ours)
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			theirs.Close()
		}()
		f(l)
	})
}

func (l *line) publish(n int, typ string) {
	l.t.Helper()
	for range n {
		ev := &event.Event{ID: fmt.Sprint("evt_", l.count), Type: typ, Environment: event.Sandbox, Org: "org_a", Audience: event.Audience{All: true}, Data: fmt.Appendf(nil, `{"n":%d}`, l.count)}
		l.count++
		if _, err := l.log.Append(l.t.Context(), []eventlog.Record{{Partition: partition(event.Sandbox), Value: ev.AppendRecord(nil)}}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// block reads what stands before a blank line.
func (l *line) block() string {
	l.t.Helper()
	var b strings.Builder
	for {
		text, err := l.br.ReadString('\n')
		if err != nil {
			l.t.Fatal(b.String(), err)
		}
		if text == "\n" {
			return b.String()
		}
		b.WriteString(text)
	}
}

func (l *line) want(text string) {
	l.t.Helper()
	if got := l.block(); got != text {
		l.t.Fatalf("got  %q\nwant %q", got, text)
	}
}

func (l *line) wantEvents(from, to int) {
	l.t.Helper()
	for n := from; n < to; n++ {
		l.want(fmt.Sprintf("id: %s\nevent: rfq.created\ndata: {\"n\":%d}\n", l.at(n+1), n))
	}
}

func (l *line) at(next int) string {
	return event.Cursor{Environment: event.Sandbox, Next: int64(next)}.String()
}

// TestHeartbeat: every 15 s, with the place that the stream has got to.
func TestHeartbeat(t *testing.T) {
	onLine(t, -1, 0, func(l *line) {
		l.block()
		l.publish(3, "other.thing")
		l.want(": heartbeat\nid: " + l.at(3) + "\n")
		first := time.Now()
		l.publish(1, "rfq.created")
		l.wantEvents(3, 4)
		l.publish(2, "other.thing")
		for range 3 {
			l.want(": heartbeat\nid: " + l.at(6) + "\n")
		}
		if late := time.Since(first) - 45*time.Second; late < -tickEvery || late > tickEvery {
			t.Errorf("three heartbeats came within %v", time.Since(first))
		}
	})
}

// TestBehindTells what comes between the turns of one who is behind: its own place.
func TestBehindTells(t *testing.T) {
	onLine(t, 0, 200, func(l *line) {
		l.block()
		time.Sleep(20 * time.Second) // a heartbeat waits behind the first turn, before the second
		l.wantEvents(0, chunkEvents)
		l.want(": heartbeat\nid: " + l.at(chunkEvents) + "\n")
		l.wantEvents(chunkEvents, 200)
		l.publish(1, "rfq.created")
		l.wantEvents(200, 201)
	})
}

// TestBehindStalls: who is behind and takes no byte is closed after a while, who takes
// one now and then isn't.
func TestBehindStalls(t *testing.T) {
	onLine(t, 0, 200, func(l *line) {
		l.block()
		for range 3 {
			time.Sleep(29 * time.Second)
			if _, err := l.nc.Read(make([]byte, 1)); err != nil || l.conn.ended() != nil {
				t.Fatalf("closed as %v: %v", l.conn.ended(), err)
			}
		}
		time.Sleep(32 * time.Second)
		if e := l.conn.ended(); e == nil || e.Name != "slow" {
			t.Fatalf("not closed: %v", e)
		}
	})
}

// TestBehindUnread: while the log can't be read, heartbeats go on, and nothing is
// passed over.
func TestBehindUnread(t *testing.T) {
	onLine(t, 0, 200, func(l *line) {
		l.block()
		l.wantEvents(0, 10)
		l.log.fails.Store(true)
		l.wantEvents(10, chunkEvents) // which were read already
		for range 3 {
			l.want(": heartbeat\nid: " + l.at(chunkEvents) + "\n")
		}
		l.log.fails.Store(false)
		l.wantEvents(chunkEvents, 200)
	})
}

// TestBehindExpires: what isn't kept any more when its turn comes is told, then the
// stream is live.
func TestBehindExpires(t *testing.T) {
	onLine(t, 0, 200, func(l *line) {
		l.block()
		l.wantEvents(0, 10)
		l.log.oldest.Store(150)
		time.Sleep(10 * time.Second) // for so long the old place is believed
		l.wantEvents(10, chunkEvents)
		l.want("id: " + l.at(200) + "\nevent: cursor_expired\ndata: {}\n")
		l.publish(1, "rfq.created")
		l.wantEvents(200, 201)
	})
}

// TestBehindAhead: who is behind on a shard that was given more than the others yet is
// read on to from its own place.
func TestBehindAhead(t *testing.T) {
	onLine(t, -1, 10, func(l *line) {
		l.block()
		for _, n := range []int{1, 4, 3} { // is being written, wait, don't fit
			l.publish(n, "rfq.created")
			synctest.Wait()
		}
		l.hub.position[event.Sandbox].Store(14) // as long as the tail waits for another shard
		l.wantEvents(10, 18)
		l.publish(1, "rfq.created")
		l.wantEvents(18, 19)
	})
}

// TestBehindWaits: while the log takes its time, heartbeats come in theirs.
func TestBehindWaits(t *testing.T) {
	onLine(t, 0, 200, func(l *line) {
		l.block()
		l.wantEvents(0, 10)
		l.log.gate = make(chan struct{})
		l.log.holds.Store(true)
		l.wantEvents(10, chunkEvents) // which were read already
		beat := ": heartbeat\nid: " + l.at(chunkEvents) + "\n"
		l.want(beat)
		for last := time.Now(); time.Since(l.began) < 2*time.Minute; last = time.Now() {
			l.want(beat)
			if late := time.Since(last) - 15*time.Second; late < -tickEvery || late > tickEvery {
				t.Fatalf("heartbeats came %v apart", time.Since(last))
			}
		}
		close(l.log.gate)
		l.wantEvents(chunkEvents, 200)
	})
}

// TestJumpForgets: what was read before the place among the events was lost isn't given
// to anybody after.
func TestJumpForgets(t *testing.T) {
	onLine(t, -1, 10, func(l *line) {
		l.block()
		past := l.hub.cfg.Past[event.Sandbox]
		read := func() int64 {
			before := l.log.reads.Load()
			if _, err := past.Forward(l.t.Context(), 0, 10, replay.Most{}, func(*event.Event) bool { return true }); err != nil {
				t.Fatal(err)
			}
			return l.log.reads.Load() - before
		}
		if first, again := read(), read(); first != 1 || again != 0 {
			t.Fatalf("read %d times, then %d", first, again)
		}
		l.hub.jump(event.Sandbox, 10)
		if read() != 1 {
			t.Error("what was read before is believed")
		}
	})
}
