package stream

import (
	"bufio"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// echoMessage is the most that the echo takes, in bytes: what conformance suites
// send, and not what a client may.
const echoMessage = 32 << 20

// Echo is a WebSocket that says what it hears, for conformance suites: it has the
// carrier, parser, queue and compression of every other connection, and other
// limits. It is for a port that isn't public.
func (h *Hub) Echo() http.Handler {
	limits := h.limits
	limits.Message, limits.FirstMessage, limits.Fragments = echoMessage, echoMessage, echoMessage
	limits.Rate, limits.Burst = 1<<30, 1<<30
	limits.Auth = 365 * 24 * time.Hour
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := r.Header.Get("Sec-WebSocket-Key")
		if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || nonce == "" {
			w.Header().Set("Upgrade", "websocket")
			http.Error(w, "this is a WebSocket: connect with an upgrade", http.StatusUpgradeRequired)
			return
		}
		c := h.admit(0, netip.Prefix{})
		if c == nil {
			http.Error(w, "no new connections now", http.StatusServiceUnavailable)
			return
		}
		window, compression := h.compression(strings.Join(r.Header.Values(offered), ","))
		c.echo, c.limits, c.window = true, &limits, window
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			h.dismiss(c)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Time{})
		if err := answer(nc, switching(nonce, compression)); err != nil {
			h.dismiss(c)
			return
		}
		h.serve(c, behind{nc, rw.Reader})
	})
}

// behind reads what the server has read already first.
type behind struct {
	net.Conn
	r *bufio.Reader
}

func (b behind) Read(p []byte) (int, error) { return b.r.Read(p) }

// UnsafeConn gives the connection itself.
func (b behind) UnsafeConn() net.Conn { return b.Conn }
