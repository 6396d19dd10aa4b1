package stream

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"iter"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/valyala/fasthttp"

	"sluice/gateway/web"
	"sluice/pkg/dialect"
)

// Handlers gives the path and handler of every stream.
func (h *Hub) Handlers() iter.Seq2[string, fasthttp.RequestHandler] {
	return func(yield func(string, fasthttp.RequestHandler) bool) {
		for n, s := range h.cfg.Streams {
			for _, path := range s.Paths {
				if !yield(path, h.handler(n)) {
					return
				}
			}
		}
	}
}

// handler upgrades to a connection that speaks the stream of that number. The
// answer is written by us, on the connection itself: of one that breaks before it
// is sent the server wouldn't tell us, and what admit counted would be lost.
func (h *Hub) handler(n int) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if !ctx.IsGet() || !websocket.FastHTTPIsWebSocketUpgrade(ctx) {
			ctx.Response.Header.Set("Upgrade", "websocket")
			h.refuse(ctx, fasthttp.StatusUpgradeRequired, dialect.BadRequest, "handshake", "this is a WebSocket: connect with GET and an upgrade", 0)
			return
		}
		head := &ctx.Request.Header
		if v := strings.TrimSpace(string(head.Peek("Sec-WebSocket-Version"))); v != "13" {
			ctx.Response.Header.Set("Sec-WebSocket-Version", "13")
			h.refuse(ctx, fasthttp.StatusUpgradeRequired, dialect.BadRequest, "handshake", "Sec-WebSocket-Version must be 13", 0)
			return
		}
		nonce := string(head.Peek("Sec-WebSocket-Key"))
		if b, err := base64.StdEncoding.DecodeString(nonce); err != nil || len(b) != 16 {
			h.refuse(ctx, fasthttp.StatusBadRequest, dialect.BadRequest, "handshake", "Sec-WebSocket-Key must be 16 bytes in base64", 0)
			return
		}
		if !h.originAllowed(head, string(ctx.Host())) {
			h.refuse(ctx, fasthttp.StatusForbidden, dialect.Forbidden, "origin", "cookies from this origin aren't accepted", 0)
			return
		}
		window, compression := h.compression(string(bytes.Join(head.PeekAll(offered), []byte(","))))
		from := web.Network(ctx.RemoteIP())
		if reason := h.full(from); reason != "" {
			h.refuse(ctx, fasthttp.StatusServiceUnavailable, dialect.Unavailable, reason, "no new connections now: come back later", h.retryAfter())
			return
		}
		ctx.SetStatusCode(fasthttp.StatusSwitchingProtocols) // for who counts
		ctx.HijackSetNoResponse(true)
		ctx.Hijack(func(nc net.Conn) {
			c := h.admit(n, from)
			if c == nil { // others came between
				h.raced(nc)
				return
			}
			c.window = window
			if err := answer(nc, switching(nonce, compression)); err != nil {
				h.dismiss(c)
				return
			}
			h.serve(c, nc)
		})
	}
}

// answerWithin bounds how long the answer to a handshake waits for its client.
const answerWithin = 5 * time.Second

func answer(nc net.Conn, text string) error {
	nc.SetWriteDeadline(time.Now().Add(answerWithin))
	defer nc.SetWriteDeadline(time.Time{})
	_, err := nc.Write([]byte(text))
	return err
}

// raced refuses a client behind whose handshake others came, when there is no answer of
// the server's any more.
func (h *Hub) raced(nc net.Conn) {
	h.metrics.refused.WithLabelValues("raced").Inc()
	answer(nc, fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nRetry-After: %d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", h.retryAfter()))
}

// switching is the answer to a handshake (RFC 6455, 4.2.2). extensions are those
// agreed on.
func switching(nonce, extensions string) string {
	sum := sha1.Sum([]byte(nonce + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	text := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	if extensions != "" {
		text += offered + ": " + extensions + "\r\n"
	}
	return text + "\r\n"
}

// offered is the header that a client offers extensions in. It may come more than
// once, which is the same as with commas between.
const offered = "Sec-WebSocket-Extensions"

// compression agrees on it where it is configured.
func (h *Hub) compression(offers string) (window uint8, answer string) {
	if !h.cfg.Compress {
		return 0, ""
	}
	return agree(offers)
}

func (h *Hub) refuse(ctx *fasthttp.RequestCtx, status int, code dialect.Code, reason, message string, retryAfter int) {
	h.metrics.refused.WithLabelValues(reason).Inc()
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	if retryAfter > 0 {
		ctx.Response.Header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	ctx.SetBody((&dialect.Error{Code: code, Message: message}).AppendJSON(nil))
}

// retryAfter is for how many seconds who is refused stays away: from 1 to 5, other from
// call to call, so that who was refused together doesn't come back together.
func (h *Hub) retryAfter() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number++
	return 1 + h.number%5
}

// originAllowed holds browsers that bring cookies to the host's own pages and
// the configured ones. A key in a message may come from anywhere.
func (h *Hub) originAllowed(head *fasthttp.RequestHeader, host string) bool {
	return len(head.Peek("Cookie")) == 0 || web.FromOwnPage(head, host, h.cfg.Origins)
}

// below gives the connection under the server's wrappers: many frames in one
// write need the *net.TCPConn itself.
func below(nc net.Conn) net.Conn {
	for {
		w, ok := nc.(interface{ UnsafeConn() net.Conn })
		if !ok {
			return nc
		}
		nc = w.UnsafeConn()
	}
}
