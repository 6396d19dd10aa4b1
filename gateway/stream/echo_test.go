package stream_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestEcho says what it hears, more than a client may say, and is closed with the hub.
func TestEcho(t *testing.T) {
	s := open(t, nil)
	server := httptest.NewServer(s.hub.Echo())
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, strings.Replace(server.URL, "http", "ws", 1), nil)
	ok(t, err)
	defer ws.CloseNow()
	ws.SetReadLimit(4 << 20)
	for _, size := range []int{0, 1, 125, 126, 1 << 16, 3 << 20} {
		for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
			sent := bytes.Repeat([]byte("x"), size)
			ok(t, ws.Write(ctx, kind, sent))
			got, heard, err := ws.Read(ctx)
			if err != nil || got != kind || !bytes.Equal(heard, sent) {
				t.Fatalf("%d bytes of %v: %v, %d bytes, %v", size, kind, got, len(heard), err)
			}
		}
	}
	ok(t, ws.Close(websocket.StatusNormalClosure, ""))
	resp, err := server.Client().Get(server.URL)
	ok(t, err)
	resp.Body.Close()
	if resp.StatusCode != 426 {
		t.Errorf("without an upgrade: %s", resp.Status)
	}
}
