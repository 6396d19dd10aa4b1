package stream_test

import (
	"bytes"
	"testing"
)

// TestSaidTogether: what is said to messages that came together goes out together.
func TestSaidTogether(t *testing.T) {
	s := open(t, nil)
	r := s.raw(t, handshake)
	if resp := r.response(); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	r.saysAll(`{"type":"auth","token":"`+s.token+`"}`, `{"type":"subscribe","channels":["*"]}`, `{"type":"ping"}`)
	_, err := r.br.Peek(1)
	ok(t, err)
	said, _ := r.br.Peek(r.br.Buffered()) // what one read gave
	for _, part := range []string{"auth.ok", "subscribe.ok", "pong"} {
		if !bytes.Contains(said, []byte(part)) {
			t.Errorf("%s isn't in %q", part, said)
		}
	}
}

// TestSaidBeforeWaiting: a replay that a later message waits for begins, though both
// came together.
func TestSaidBeforeWaiting(t *testing.T) {
	s := open(t, nil)
	s.publishAll(3, "rfq.created")
	s.settle()
	r := s.raw(t, handshake)
	if resp := r.response(); resp.StatusCode != 101 {
		t.Fatal(resp.Status)
	}
	r.saysAll(`{"type":"auth","token":"`+s.token+`"}`, `{"type":"subscribe","channels":["rfq.*"],"cursor":"`+s.cursor(0)+`"}`, `{"type":"subscribe","channels":["order.*"]}`)
	for _, part := range []string{"auth.ok", "subscribe.ok", `"n":0`, `"n":1`, `"n":2`, "subscribe.ok"} {
		if payload := r.frameOf(0x81); !bytes.Contains(payload, []byte(part)) {
			t.Errorf("%s isn't in %q", part, payload)
		}
	}
}

// saysAll sends messages with one write.
func (r *raw) saysAll(texts ...string) {
	r.t.Helper()
	var frames []byte
	for _, text := range texts {
		frames = append(frames, masked(0x81, []byte(text))...)
	}
	_, err := r.nc.Write(frames)
	ok(r.t, err)
}
