package stream

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/tetrafi"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
	"sluice/replay"
)

// anybody lets everybody in whose token is a word.
type anybody struct {
	expires time.Time
	tell    *func(control.Change) // what whoever watches is told by; nil: nobody is told of anything
}

func (a anybody) Authenticate(_ context.Context, token string) (*key.Principal, error) {
	if token != "word" {
		return nil, control.ErrUnauthorized
	}
	return &key.Principal{Org: "org_a", Environment: event.Sandbox, KeyID: "key_a", Scopes: key.Scopes, ExpiresAt: a.expires}, nil
}

// Known knows nobody: each look-up may have to wait.
func (anybody) Known(string) *key.Principal { return nil }

func (anybody) Key(string) *control.Key { return new(control.Key) }

func (a anybody) Watch(fn func(control.Change)) func() {
	if a.tell != nil {
		*a.tell = fn
	}
	return func() {}
}

// virtual is a hub in a bubble, with one client over a pipe that takes no byte
// before it is read.
type virtual struct {
	t     *testing.T
	hub   *Hub
	log   eventlog.Log
	nc    net.Conn
	br    *bufio.Reader
	began time.Time
}

// inBubble runs f, whose times are virtual, and stops what is left.
func inBubble(t *testing.T, a anybody, f func(*virtual)) { bubble(t, a, net.Pipe, f) }

func bubble(t *testing.T, a anybody, pipe func() (ours, theirs net.Conn), f func(*virtual)) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, eventlog.Topic{Name: event.Sandbox.Topic(), Partitions: 1}, eventlog.Topic{Name: event.Live.Topic(), Partitions: 1})
		if !a.expires.IsZero() {
			a.expires = time.Now().Add(time.Minute)
		}
		past := replay.New(replay.Config{Log: log, Environment: event.Sandbox})
		h := New(Config{
			Log: log, Access: a, Streams: []*dialect.Stream{tetrafi.Dialect.Stream}, Shards: 1, Limits: Limits{QueueEvents: 4},
			Past: map[event.Environment]*replay.Reader{event.Sandbox: past},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		<-h.Ready()
		ours, theirs := pipe()
		c := h.admit(0, netip.Prefix{})
		go h.serve(c, ours)
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			theirs.Close()
		}()
		f(&virtual{t, h, log, theirs, bufio.NewReader(theirs), time.Now()})
	})
}

func (v *virtual) say(text string) {
	v.t.Helper()
	f := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
	if _, err := v.nc.Write(f); err != nil {
		v.t.Fatal(err)
	}
}

func (v *virtual) frame() (op byte, payload []byte, err error) {
	var h [2]byte
	if _, err := io.ReadFull(v.br, h[:]); err != nil {
		return 0, nil, err
	}
	n := int(h[1])
	if n == 126 {
		var l [2]byte
		if _, err := io.ReadFull(v.br, l[:]); err != nil {
			return 0, nil, err
		}
		n = int(binary.BigEndian.Uint16(l[:]))
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(v.br, payload)
	return h[0] & 0xf, payload, err
}

// want reads one frame, at the given time since the connection.
func (v *virtual) want(op byte, part string, at time.Duration) {
	v.t.Helper()
	got, payload, err := v.frame()
	if err != nil || got != op || !strings.Contains(string(payload), part) {
		v.t.Fatalf("want %x %q, got %x %q %v", op, part, got, payload, err)
	}
	if late := time.Since(v.began) - at; late < 0 || late > tickEvery {
		v.t.Fatalf("%x %q came after %v, want %v", op, payload, time.Since(v.began), at)
	}
}

func (v *virtual) join() {
	v.say(`{"type":"auth","token":"word"}`)
	v.want(opText, "auth.ok", 0)
	v.say(`{"type":"subscribe","channels":["rfq.*"]}`)
	v.want(opText, "subscribe.ok", 0)
}

func (v *virtual) publish(n int) {
	v.t.Helper()
	for range n {
		ev := &event.Event{ID: "evt_1", Type: "rfq.created", Environment: event.Sandbox, Org: "org_a", Audience: event.Audience{All: true}, Data: []byte(`{}`)}
		if _, err := v.log.Append(v.t.Context(), []eventlog.Record{{Partition: partition(event.Sandbox), Value: ev.AppendRecord(nil)}}); err != nil {
			v.t.Fatal(err)
		}
	}
}

func closed(code uint16) string { return string(binary.BigEndian.AppendUint16(nil, code)) }

func TestNoAuthInTime(t *testing.T) {
	inBubble(t, anybody{}, func(v *virtual) {
		v.say(`{"type":"subscribe","channels":["rfq.*"]}`)
		v.want(opText, `"unauthorized"`, 0)
		v.want(opText, `"unauthorized"`, 10*time.Second)
		v.want(opClose, closed(4401), 10*time.Second)
	})
}

func TestPings(t *testing.T) {
	inBubble(t, anybody{}, func(v *virtual) {
		v.join()
		first := 30*time.Second - 30*time.Second/64 // the first connection's spread
		for i := range 10 {
			at := first + time.Duration(i)*30*time.Second
			v.want(opText, `{"type":"ping"}`, at)
			v.want(opPing, "", at)
			v.say(`{"type":"pong"}`)
		}
	})
}

func TestSilence(t *testing.T) {
	inBubble(t, anybody{}, func(v *virtual) {
		v.join()
		time.Sleep(20 * time.Second)
		// A pong frame is as good, and half a frame is nothing.
		v.nc.Write([]byte{0x8a, 0x80, 0, 0, 0, 0})
		time.Sleep(time.Second)
		v.nc.Write([]byte{0x81, 0xfe, 0})
		for range 3 {
			v.frame()
			v.frame()
		}
		v.want(opClose, closed(4408), 110*time.Second)
	})
}

func TestExpiry(t *testing.T) {
	inBubble(t, anybody{expires: time.Unix(1, 0)}, func(v *virtual) {
		v.join()
		for range 2 {
			v.frame()
			v.frame()
			v.say(`{"type":"pong"}`)
		}
		v.want(opText, `"unauthorized"`, time.Minute)
		v.want(opClose, closed(4401), time.Minute)
	})
}

// TestRevoked: whose key is taken away is told at once.
func TestRevoked(t *testing.T) {
	var tell func(control.Change)
	inBubble(t, anybody{tell: &tell}, func(v *virtual) {
		v.join()
		time.Sleep(20 * time.Second)
		tell(control.Change{KeyBefore: &control.Key{ID: "key_a"}})
		v.want(opText, `"unauthorized"`, 20*time.Second)
		v.want(opClose, closed(4401), 20*time.Second)
	})
}

func TestStall(t *testing.T) {
	inBubble(t, anybody{}, func(v *virtual) {
		v.join()
		v.publish(3) // fits: however long, it isn't slow
		c := v.conn()
		time.Sleep(45 * time.Second)
		if c.ended() != nil {
			v.t.Fatalf("closed as %s although there is room", c.ended().Name)
		}
		v.publish(20)
		time.Sleep(2 * time.Second)
		if e := c.ended(); e == nil || e.Name != "slow" {
			v.t.Fatalf("not closed: %v", e)
		}
	})
	inBubble(t, anybody{}, func(v *virtual) {
		v.join()
		v.publish(1)
		synctest.Wait() // the writer has it: what follows stays in the queue
		v.publish(20)
		c := v.conn()
		time.Sleep(29 * time.Second)
		if c.ended() != nil {
			v.t.Fatalf("closed as %s too soon", c.ended().Name)
		}
		// One byte taken begins it anew.
		if _, err := v.nc.Read(make([]byte, 1)); err != nil {
			v.t.Fatal(err)
		}
		time.Sleep(29 * time.Second)
		if c.ended() != nil {
			v.t.Fatalf("closed as %s too soon after a byte", c.ended().Name)
		}
		time.Sleep(5 * time.Second)
		if e := c.ended(); e == nil || e.Name != "slow" || e.Code != 4429 {
			v.t.Fatalf("not closed: %v", e)
		}
	})
}

// TestEndingIsBounded stops a client that takes nothing within the linger.
func TestEndingIsBounded(t *testing.T) {
	inBubble(t, anybody{}, func(v *virtual) {
		v.join()
		v.publish(3)
		synctest.Wait()
		began := time.Now()
		if err := v.hub.Drain(v.t.Context()); err != nil {
			v.t.Error(err)
		}
		if took := time.Since(began); took > 8*time.Second {
			v.t.Errorf("a client that reads nothing held the drain up for %v", took)
		}
	})
}

// conn gives the hub's only connection.
func (v *virtual) conn() (c *conn) {
	v.hub.shards[0].call(func() {
		if conns := v.hub.shards[0].conns; len(conns) > 0 {
			c = conns[0]
		}
	})
	return c
}

// TestCoalesce: events wait for others since some were written, and not after a
// pause; answers don't wait.
func TestCoalesce(t *testing.T) {
	inBubble(t, anybody{}, func(v *virtual) {
		shard := v.hub.shards[0]
		shard.call(func() { v.hub.cfg.Coalesce = 100 * time.Millisecond })
		v.join()
		at := func(want time.Duration) {
			t.Helper()
			if _, payload, err := v.frame(); err != nil || time.Since(v.began) != want {
				t.Fatalf("%s after %v, want %v; %v", payload, time.Since(v.began), want, err)
			}
		}
		time.Sleep(time.Second)
		v.publish(1)
		at(time.Second)
		time.Sleep(10 * time.Millisecond)
		v.publish(1)
		time.Sleep(20 * time.Millisecond)
		v.publish(1)
		at(1100 * time.Millisecond)
		at(1100 * time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		v.publish(1)
		at(1400 * time.Millisecond)
		v.say(`{"type":"ping"}`)
		at(1400 * time.Millisecond)
	})
}

// TestDrainSpread: who is told to go is told in turn, at a pace, or as quickly as the
// time that there is demands.
func TestDrainSpread(t *testing.T) {
	const clients = 40
	for _, tt := range []struct {
		within, last time.Duration
	}{
		{time.Minute, (clients - 1) * drainPace},
		{100 * time.Millisecond, 80 * time.Millisecond * (clients - 1) / clients},
	} {
		inBubble(t, anybody{}, func(v *virtual) {
			told := make(chan time.Duration, clients)
			var began time.Time
			for i := range clients {
				nc := v.nc
				if i > 0 {
					ours, theirs := net.Pipe()
					c := v.hub.admit(0, netip.Prefix{})
					go v.hub.serve(c, ours)
					nc = theirs
				}
				go func() {
					defer nc.Close()
					client := virtual{br: bufio.NewReader(nc)}
					if _, payload, err := client.frame(); err != nil || string(payload) != `{"type":"going_away"}` {
						t.Errorf("%s, %v", payload, err)
					}
					told <- time.Since(began)
					if op, payload, err := client.frame(); err != nil || op != opClose || string(payload[:2]) != closed(1012) {
						t.Errorf("%x %s, %v", op, payload, err)
					}
				}()
			}
			synctest.Wait()
			began = time.Now()
			ctx, cancel := context.WithTimeout(v.t.Context(), tt.within)
			defer cancel()
			if err := v.hub.Drain(ctx); err != nil {
				t.Error(err)
			}
			for i := range clients {
				if at, want := <-told, tt.last*time.Duration(i)/(clients-1); at.Round(time.Millisecond) != want.Round(time.Millisecond) {
					t.Errorf("within %v: the %d. was told after %v, want %v", tt.within, i, at, want)
				}
			}
		})
	}
}

// TestLostBehindResume: what is lost behind a resume, of what waited when that came, can
// be asked for like any other loss.
func TestLostBehindResume(t *testing.T) {
	for _, channels := range []string{`"rfq.*"`, `"*"`} { // subscribed to already, or not
		inBubble(t, anybody{}, func(v *virtual) {
			at := func(next int64) string { return event.Cursor{Environment: event.Sandbox, Next: next}.String() }
			resume := func(next int64) {
				v.say(`{"type":"subscribe","channels":[` + channels + `],"cursor":"` + at(next) + `"}`)
				synctest.Wait()
			}
			v.join()
			v.publish(1) // is being written
			synctest.Wait()
			v.publish(4) // wait
			synctest.Wait()
			resume(0)
			v.publish(2) // of 1 and 2
			synctest.Wait()
			wants := []string{at(1), `"count":2,"cursor":"` + at(1), at(4), at(5), "subscribe.ok", at(6), at(7)}
			for _, want := range wants {
				v.want(opText, want, 0)
			}
			resume(1)
			for _, want := range []string{"subscribe.ok", at(2), at(3)} {
				v.want(opText, want, 0)
			}
		})
	}
}

// TestRefusedKeepsNothing: a subscribe that is refused changes nothing of how its client
// is served.
func TestRefusedKeepsNothing(t *testing.T) {
	inBubble(t, anybody{}, func(v *virtual) {
		v.join()
		v.hub.limits.Patterns = 1
		v.say(`{"type":"subscribe","channels":["other.thing"],"onSlow":"resume"}`)
		v.want(opText, `at most 1 patterns`, 0)
		v.publish(20)
		synctest.Wait()
		for {
			op, text, err := v.frame()
			if err != nil || op != opText {
				t.Fatalf("%x %v", op, err)
			}
			if strings.Contains(string(text), `"dropped"`) {
				return
			}
			if strings.Contains(string(text), event.Cursor{Environment: event.Sandbox, Next: 20}.String()) {
				t.Fatal("it got the last, and nothing was dropped")
			}
		}
	})
}
