package stream_test

import (
	"strings"
	"testing"
	"time"

	"sluice/gateway/stream"
)

func TestDrain(t *testing.T) { carried(t, testDrain) }

func testDrain(t *testing.T) {
	s := open(t, nil)
	fresh := s.dial()
	var clients []*client
	for range 20 {
		clients = append(clients, s.join(`"rfq.*"`))
	}
	n := s.publish("rfq.created")
	for _, c := range clients {
		c.wantN(n)
	}
	drained := make(chan error)
	go func() { drained <- s.hub.Drain(t.Context()) }()
	fresh.wantText(`{"type":"going_away"}`)
	fresh.wantClose(1012)
	for _, c := range clients {
		if m := c.want("going_away"); m.Cursor != s.cursor(n+1) {
			t.Error(m.text)
		}
		c.wantClose(1012)
	}
	ok(t, <-drained)
	if _, err := s.tryDial(nil); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("while draining: %v", err)
	}
	s.wantCount("sluice_stream_endings_total", "drain", 21)
}

func TestDrainNothing(t *testing.T) { carried(t, testDrainNothing) }

func testDrainNothing(t *testing.T) {
	s := open(t, func(c *stream.Config) { c.Limits.Linger = time.Hour })
	began := time.Now()
	ok(t, s.hub.Drain(t.Context()))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestStopCutsTheRest(t *testing.T) { carried(t, testStopCutsTheRest) }

func testStopCutsTheRest(t *testing.T) {
	s := open(t, nil)
	c := s.join(`"rfq.*"`)
	s.stop()
	if _, err := c.hear(); err == nil {
		t.Error("it is still open")
	}
}
