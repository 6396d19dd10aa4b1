package stream_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/stream"
	"sluice/pkg/event"
)

// kinds are what the tests below publish in turn: number n is of kinds[n%4].
var kinds = []struct{ typ, corridor string }{{"rfq.created", "a-b"}, {"quote.received", ""}, {"rfq.created", "c-d"}, {"order.made", ""}}

func (s *stage) publishKinds(total int, rnd *rand.Rand) {
	for n := range total {
		s.publish(kinds[n%4].typ, in(kinds[n%4].corridor), func(ev *event.Event) {
			ev.Data = append([]byte(`{"pad":"`+strings.Repeat("x", rnd.IntN(6000))+`",`), ev.Data[1:]...)
		})
		if n%16 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// TestKeep: clients that lose nothing get every event that they subscribed to, once and
// in order, however they stall: with filters, corridors and several subscribes.
func TestKeep(t *testing.T) { carried(t, testKeep) }

func testKeep(t *testing.T) {
	const total = 1200
	s := open(t, func(c *stream.Config) {
		c.Limits.SendBuffer, c.Limits.QueueEvents = 4<<10, 20
	})
	wants := func(i, n int) bool {
		k := kinds[n%4]
		return k.typ == "rfq.created" && k.corridor == "a-b" || i%2 == 0 && k.typ == "quote.received" && n >= 100
	}
	var clients sync.WaitGroup
	for i := range 6 {
		c := s.dial()
		c.say(`{"type":"auth","token":"` + s.token + `"}`)
		c.say(`{"type":"subscribe","channels":["rfq.*"],"corridors":["a-b"],"onSlow":"resume"}`)
		c.want("auth.ok")
		c.want("subscribe.ok")
		if i%2 == 0 {
			c.say(`{"type":"subscribe","channels":["quote.*"],"filter":{"n":{"gte":100}}}`)
			c.want("subscribe.ok")
		}
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 6))
			for n := range total {
				if !wants(i, n) {
					continue
				}
				if rnd.IntN(60) == 0 {
					time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
				}
				if m, err := c.hear(); err != nil || m.N == nil || *m.N != int64(n) || m.Cursor != s.cursor(int64(n+1)) {
					t.Errorf("client %d wants %d, got %.60s %v", i, n, m.text, err)
					return
				}
			}
			c.silentlyOpen()
		})
	}
	s.publishKinds(total, rand.New(rand.NewPCG(7, 7)))
	clients.Wait()
	if n := s.count("sluice_stream_events_dropped_total", ""); n != 0 {
		t.Errorf("%v were dropped", n)
	}
	eventually(t, "nobody is behind any more", func() bool { return s.count("sluice_stream_behind", "") == 0 })
}

// TestKeepChanges: what a client subscribes to while it is behind, and takes back, holds
// from the place to which it has been read. With a cursor it gets what was before.
func TestKeepChanges(t *testing.T) { carried(t, testKeepChanges) }

func testKeepChanges(t *testing.T) {
	const total = 800
	for seed := range uint64(6) {
		s := open(t, func(c *stream.Config) {
			c.Limits.SendBuffer, c.Limits.QueueEvents = 4<<10, 20
			c.Limits.Replay = total
		})
		rnd := rand.New(rand.NewPCG(seed, 8))
		c := s.dial()
		c.say(`{"type":"auth","token":"` + s.token + `"}`)
		c.say(`{"type":"subscribe","channels":["rfq.*"],"onSlow":"resume"}`)
		c.say(`{"type":"subscribe","channels":["quote.*"]}`)
		c.want("auth.ok")
		c.want("subscribe.ok")
		c.want("subscribe.ok")
		s.publishKinds(total, rnd)
		eventually(t, "it is behind", func() bool { return s.count("sluice_stream_behind", "") == 1 })
		for range rnd.IntN(300) {
			if _, err := c.hear(); err != nil {
				t.Fatal(err)
			}
		}
		behind := s.count("sluice_stream_behind", "") == 1
		c.say(`{"type":"unsubscribe","channels":["quote.*"]}`)
		c.say(`{"type":"subscribe","channels":["order.*"],"cursor":"` + s.cursor(40) + `"}`)
		c.say(`{"type":"subscribe","channels":["rfq.*"],"cursor":"` + s.cursor(0) + `"}`)
		c.say(`{"type":"subscribe","channels":["nothing.here"]}`)
		var orders, rfqs []int64
		answers := 0
		for len(orders) < (total-40)/4 || rfqs == nil || rfqs[len(rfqs)-1] != total-2 || answers < 4 {
			m, err := c.hear()
			switch {
			case err != nil:
				t.Fatalf("seed %d (behind: %v): %d orders, %d answers: %v", seed, behind, len(orders), answers, err)
			case strings.HasSuffix(m.Type, "subscribe.ok"):
				answers++
			case m.N == nil:
				t.Fatalf("seed %d: %.80s", seed, m.text)
			case m.Type == "order.made":
				orders = append(orders, *m.N)
			case m.Type == "rfq.created":
				rfqs = append(rfqs, *m.N)
			case answers > 0:
				t.Fatalf("seed %d: %.80s came behind the unsubscribe", seed, m.text)
			}
		}
		if !slices.IsSorted(orders) || !slices.IsSorted(rfqs) || orders[0] != 43 || len(slices.Compact(orders)) != (total-40)/4 {
			t.Errorf("seed %d (behind: %v): orders %v\nrfqs %v", seed, behind, orders, rfqs)
		}
		for i := 1; i < len(rfqs); i++ {
			if rfqs[i] != rfqs[i-1]+2 {
				t.Errorf("seed %d (behind: %v): %d follows %d", seed, behind, rfqs[i], rfqs[i-1])
			}
		}
		c.silentlyOpen()
	}
}
