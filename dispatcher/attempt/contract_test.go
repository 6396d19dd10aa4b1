package attempt

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
)

// The contract of a Sender, held against receivers that are broken, hostile or
// merely slow, over real sockets.

func TestAnswers(t *testing.T) {
	canary := receive(t, answer(ok))
	big := bytes.Repeat([]byte("x"), 256<<10)
	plain := func(text string) func(*receiver, net.Conn, *bufio.Reader) {
		return func(r *receiver, c net.Conn, br *bufio.Reader) {
			if _, _, whole := r.request(br); whole {
				io.WriteString(c, text)
			}
		}
	}
	cases := []struct {
		name   string
		serve  func(*receiver, net.Conn, *bufio.Reader)
		body   []byte
		class  delivery.Class
		status int
		detail string // contained in the outcome's
		cut    bool   // the body is left after its time
	}{
		{name: "ok", serve: answer(ok), class: delivery.Delivered, status: 200},
		{name: "no content", serve: answer("HTTP/1.1 204 No Content\r\n\r\n"), class: delivery.Delivered, status: 204},
		{name: "no reason, no length", serve: plain("HTTP/1.1 202\r\n\r\n"), class: delivery.Delivered, status: 202},
		{name: "HTTP/1.0", serve: plain("HTTP/1.0 200 OK\r\n\r\nhello"), class: delivery.Delivered, status: 200},
		{name: "chunked, with trailer", serve: answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n"), class: delivery.Delivered, status: 200},
		{name: "hints before it", serve: answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok), class: delivery.Delivered, status: 200},
		{name: "large request", serve: answer(ok), body: big, class: delivery.Delivered, status: 200},

		{name: "error", serve: answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 16\r\n\r\nno\x1b[31m\x00database"), class: delivery.HTTPError, status: 500, detail: "500 Internal Server Error: no [31m database"},
		{name: "gone", serve: answer("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"), class: delivery.HTTPError, status: 410, detail: "410 Gone"},
		{name: "redirect", serve: answer("HTTP/1.1 302 Found\r\nLocation: http://" + canary.addr + "/\r\nContent-Length: 0\r\n\r\n"), class: delivery.HTTPError, status: 302, detail: "redirects aren't followed"},
		{name: "permanent redirect", serve: answer("HTTP/1.1 308 Permanent Redirect\r\nLocation: http://" + canary.addr + "/\r\nContent-Length: 0\r\n\r\n"), class: delivery.HTTPError, status: 308},
		{name: "switching protocols", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			if _, _, whole := r.request(br); whole {
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
				<-r.done
			}
		}, class: delivery.HTTPError, status: 101},
		{name: "status 999", serve: answer("HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n"), class: delivery.HTTPError, status: 999},
		{name: "no content, but a body", serve: plain("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"), class: delivery.Delivered, status: 204},
		{name: "answer before the request is taken", serve: func(r *receiver, c net.Conn, _ *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
			<-r.done
		}, class: delivery.HTTPError, status: 413},

		{name: "hang", serve: func(r *receiver, c net.Conn, br *bufio.Reader) { r.request(br); <-r.done }, class: delivery.Timeout},
		{name: "hang, request not taken", serve: func(r *receiver, c net.Conn, _ *bufio.Reader) { <-r.done }, body: big, class: delivery.Timeout},
		{name: "trickled status line", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 ")
			repeat(r, c, "O", 5*time.Millisecond)
		}, class: delivery.Timeout},
		{name: "trickled header", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			repeat(r, c, "A: b\r\n", 5*time.Millisecond)
		}, class: delivery.Timeout},
		{name: "trickled 1xx", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			repeat(r, c, "HTTP/1.1 102 Processing\r\n\r\n", 5*time.Millisecond)
		}, class: delivery.Timeout},
		{name: "trickled body", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
			repeat(r, c, "x", 5*time.Millisecond)
		}, class: delivery.Delivered, status: 200, cut: true},
		{name: "body never comes", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 10\r\n\r\nwait")
			<-r.done
		}, class: delivery.HTTPError, status: 503, detail: "503 Service Unavailable: wait", cut: true},
		{name: "10 GB body", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n")
			repeat(r, c, string(big), 0)
		}, class: delivery.Delivered, status: 200},
		{name: "endless chunks", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			repeat(r, c, "4\r\nabcd\r\n", 0)
		}, class: delivery.Delivered, status: 200},
		{name: "endless body without length", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 500 Oh\r\n\r\n")
			repeat(r, c, "abcd", 0)
		}, class: delivery.HTTPError, status: 500, detail: "abcdabcd"},
		{name: "a chunk larger than numbers", serve: plain("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nx"), class: delivery.Delivered, status: 200},
		{name: "compressed body", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10737418240\r\n\r\n\x1f\x8b\x08")
			repeat(r, c, string(make([]byte, 64<<10)), 0)
		}, class: delivery.Delivered, status: 200},

		{name: "endless header", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			repeat(r, c, "A: b\r\n", 0)
		}, class: delivery.Protocol, detail: "16 KiB"},
		{name: "endless header line", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nA: ")
			repeat(r, c, "bbbbbbbb", 0)
		}, class: delivery.Protocol, detail: "16 KiB"},
		{name: "endless 1xx", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			repeat(r, c, "HTTP/1.1 100 Continue\r\n\r\n", 0)
		}, class: delivery.Protocol, detail: "16 KiB"},
		{name: "garbage", serve: plain("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n"), class: delivery.Protocol},
		{name: "another protocol", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			io.WriteString(c, "220 mail.example ESMTP\r\n")
			<-r.done
		}, class: delivery.Protocol},
		{name: "HTTP/2", serve: plain("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"), class: delivery.Protocol, detail: "isn't HTTP/1"},
		{name: "status 99", serve: plain("HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n"), class: delivery.Protocol},
		{name: "two lengths", serve: plain("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"), class: delivery.Protocol},
		{name: "one length twice", serve: plain("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"), class: delivery.Delivered, status: 200},
		{name: "a length and chunks", serve: plain("HTTP/1.1 200 OK\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), class: delivery.Delivered, status: 200},
		{name: "a length below zero", serve: plain("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), class: delivery.Protocol},
		{name: "unknown transfer encoding", serve: plain("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), class: delivery.Protocol},
		{name: "broken header", serve: plain("HTTP/1.1 200 OK\r\n: nothing\r\n\r\n"), class: delivery.Protocol},

		{name: "closes", serve: plain(""), class: delivery.Connection, detail: "without an answer"},
		{name: "closes at once", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {}, class: delivery.Connection},
		{name: "closes within header", serve: plain("HTTP/1.1 200 OK\r\nContent-"), class: delivery.Connection, detail: "within"},
		{name: "closes within body", serve: plain("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"), class: delivery.Delivered, status: 200},
		{name: "resets", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			c.(*net.TCPConn).SetLinger(0)
		}, class: delivery.Connection, detail: "reset"},
		{name: "resets within header", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-")
			c.(*net.TCPConn).SetLinger(0)
		}, class: delivery.Connection},
		{name: "resets within body", serve: func(r *receiver, c net.Conn, br *bufio.Reader) {
			r.request(br)
			io.WriteString(c, "HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\nab")
			<-time.After(6 * time.Second) // or the reset would overtake the header, also on a machine that stalls
			c.(*net.TCPConn).SetLinger(0)
		}, class: delivery.HTTPError, status: 500, detail: "500 Internal Server Error"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := receive(t, tc.serve)
			cfg := patient()
			if tc.class == delivery.Timeout {
				cfg.Total = local().Total
			}
			if tc.cut {
				cfg.Body = local().Body
			}
			s := newSender(t, cfg)
			body := tc.body
			if body == nil {
				body = []byte(`{"a":1}`)
			}
			start := time.Now()
			o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr + "/hook", Body: body})
			took := time.Since(start)
			if err != nil {
				t.Fatal(err)
			}
			if o.Class != tc.class || o.Status != tc.status || !strings.Contains(o.Detail, tc.detail) {
				t.Errorf("outcome %s %d %q, want %s %d %q", o.Class, o.Status, o.Detail, tc.class, tc.status, tc.detail)
			}
			checkOutcome(t, &o)
			if took > muchLater {
				t.Errorf("took %v", took)
			}
			if tc.class == delivery.Timeout && took < cfg.Total-10*time.Millisecond {
				t.Errorf("gave up after %v, before %v", took, cfg.Total)
			}
			// What a socket's buffers hold comes to it.
			if n := r.wrote.Load(); n > 32<<20 {
				t.Errorf("%d bytes of the answer were taken", n)
			}
			if n := r.asked.Load(); n > 1 {
				t.Errorf("the request came %d times", n)
			}
			if n := r.accepts.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
	t.Cleanup(func() {
		if n := canary.accepts.Load(); n != 0 {
			t.Errorf("a redirect was followed %d times", n)
		}
	})
}

// checkOutcome holds what is so of every outcome.
func checkOutcome(t *testing.T, o *delivery.Outcome) {
	t.Helper()
	if len(o.Detail) > maxDetail || strings.ContainsFunc(o.Detail, unicode.IsControl) {
		t.Errorf("detail %q", o.Detail)
	}
	if o.Class != delivery.Delivered && o.Detail == "" {
		t.Errorf("a failure without a word: %+v", o)
	}
	if o.Class == delivery.Delivered && o.Detail != "" {
		t.Errorf("a success that says %q", o.Detail)
	}
	if time.Since(o.Started) > time.Minute || o.Took < 0 {
		t.Errorf("started %v, took %v", o.Started, o.Took)
	}
}

func TestTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	old := ca.issue(t, "127.0.0.1", hour)
	old.MaxVersion = tls.VersionTLS11
	oldest := ca.issue(t, "127.0.0.1", hour)
	oldest.MaxVersion = tls.VersionTLS10
	const late = "in time"
	cases := []struct {
		name   string
		secure *tls.Config
		serve  func(*receiver, net.Conn, *bufio.Reader)
		class  delivery.Class
		detail string
	}{
		{"good", ca.issue(t, "127.0.0.1", hour), answer(ok), delivery.Delivered, ""},
		{"unknown authority", stranger.issue(t, "127.0.0.1", hour), answer(ok), delivery.TLS, "unknown authority"},
		{"another's name", ca.issue(t, "shop.example", hour), answer(ok), delivery.TLS, "127.0.0.1"},
		{"another's address", ca.issue(t, "127.0.0.2", hour), answer(ok), delivery.TLS, "127.0.0.2"},
		{"expired", ca.issue(t, "127.0.0.1", time.Now().Add(-time.Hour)), answer(ok), delivery.TLS, "expired"},
		{"TLS 1.1", old, answer(ok), delivery.TLS, "version"},
		{"TLS 1.0", oldest, answer(ok), delivery.TLS, "version"},
		{"trickled handshake", nil, func(r *receiver, c net.Conn, _ *bufio.Reader) {
			io.WriteString(c, "\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
			repeat(r, c, "\x00", 5*time.Millisecond)
		}, delivery.TLS, late},
		{"no handshake", nil, func(r *receiver, c net.Conn, _ *bufio.Reader) { <-r.done }, delivery.TLS, late},
		{"plain HTTP", nil, func(r *receiver, c net.Conn, br *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			<-r.done
		}, delivery.TLS, ""},
		{"closes", nil, func(*receiver, net.Conn, *bufio.Reader) {}, delivery.TLS, "closed"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := receiveOn(t, "127.0.0.1:0", tc.secure, tc.serve)
			cfg := patient()
			cfg.AllowHTTP, cfg.RootCAs = false, ca.pool
			if tc.detail == late {
				cfg.TLS = local().TLS
			}
			s := newSender(t, cfg)
			for range 2 {
				start := time.Now()
				o, err := s.Send(t.Context(), &Request{URL: "https://" + r.addr + "/", Body: []byte(`{}`)})
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > muchLater {
					t.Errorf("took %v", took)
				}
				if o.Class != tc.class || !strings.Contains(o.Detail, tc.detail) {
					t.Errorf("outcome %s %d %q", o.Class, o.Status, o.Detail)
				}
				checkOutcome(t, &o)
			}
			if tc.class != delivery.Delivered && r.asked.Load() != 0 {
				t.Error("the request was sent all the same")
			}
			if tc.class == delivery.Delivered && r.accepts.Load() != 1 {
				t.Errorf("%d connections for two requests", r.accepts.Load())
			}
		})
	}
}

func TestTLSSessions(t *testing.T) {
	ca := newAuthority(t)
	resumed := make(chan bool, 2)
	r := receiveOn(t, "127.0.0.1:0", ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour)), func(r *receiver, c net.Conn, br *bufio.Reader) {
		if _, _, whole := r.request(br); whole {
			resumed <- c.(*tls.Conn).ConnectionState().DidResume
			io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}
	})
	cfg := patient()
	cfg.RootCAs = ca.pool
	s := newSender(t, cfg)
	for i, want := range []bool{false, true} {
		if o, err := s.Send(t.Context(), &Request{URL: "https://" + r.addr + "/"}); err != nil || !o.OK() {
			t.Fatal(o, err)
		}
		if got := <-resumed; got != want {
			t.Errorf("connection %d: resumed %v", i, got)
		}
	}
}

func TestDNS(t *testing.T) {
	r := receive(t, answer(ok))
	_, port, _ := net.SplitHostPort(r.addr)
	names := resolver(t, map[string]string{
		"good.example.": "127.0.0.1", "fails.example.": "fail", "slow.example.": "slow",
		"rebound.example.": "127.0.0.1", "six.example.": "::1", "mapped.example.": "64:ff9b::7f00:1",
	})
	for _, tc := range []struct {
		host   string
		closed bool // no private addresses
		class  delivery.Class
	}{
		{"good.example", false, delivery.Delivered},
		{"GOOD.example.", false, delivery.Delivered},
		{"none.example", false, delivery.DNS},
		{"fails.example", false, delivery.DNS},
		{"slow.example", false, delivery.DNS},
		{"rebound.example", true, delivery.BlockedAddress},
		{"six.example", true, delivery.BlockedAddress},
		{"mapped.example", true, delivery.BlockedAddress},
	} {
		t.Run(tc.host, func(t *testing.T) {
			before := r.accepts.Load()
			cfg := patient()
			if tc.host == "slow.example" {
				cfg.Dial = local().Dial
			}
			cfg.Resolver = names
			if tc.closed {
				cfg.AllowPrivate = nil
			}
			s := newSender(t, cfg)
			o, err := s.Send(t.Context(), &Request{URL: "http://" + tc.host + ":" + port + "/", Body: []byte(`{}`)})
			if err != nil || o.Class != tc.class {
				t.Errorf("outcome %s %q, %v", o.Class, o.Detail, err)
			}
			checkOutcome(t, &o)
			if strings.Contains(o.Detail, "127.0.0.1") {
				t.Errorf("detail tells an address: %q", o.Detail)
			}
			if got := r.accepts.Load() - before; (got != 0) != (tc.class == delivery.Delivered) {
				t.Errorf("%d connections", got)
			}
		})
	}
}

// TestCutOff holds that an attempt ends when its context or the sender does, and
// counts for nothing.
func TestCutOff(t *testing.T) {
	for _, stage := range []string{"asking", "shaking", "looking up"} {
		for _, how := range []string{"context", "close"} {
			t.Run(stage+", "+how, func(t *testing.T) {
				t.Parallel()
				begun := make(chan struct{})
				r := receive(t, func(r *receiver, c net.Conn, br *bufio.Reader) {
					br.Peek(1)
					close(begun)
					<-r.done
				})
				cfg := local()
				cfg.Total, cfg.Dial, cfg.TLS = time.Minute, time.Minute, time.Minute
				url := "http://" + r.addr + "/"
				switch stage {
				case "shaking":
					url = "https://" + r.addr + "/"
				case "looking up":
					close(begun)
					cfg.Resolver = resolver(t, map[string]string{"slow.example.": "slow"})
					url = "http://slow.example/"
				}
				s := newSender(t, cfg)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				result := make(chan error, 1)
				go func() {
					o, err := s.Send(ctx, &Request{URL: url, Body: []byte(`{}`)})
					if o != (delivery.Outcome{}) {
						err = errors.Join(err, errors.New("an outcome: "+string(o.Class)))
					}
					result <- err
				}()
				<-begun
				want := context.Canceled
				if how == "context" {
					cancel()
				} else {
					want = ErrClosed
					s.Close()
				}
				select {
				case err := <-result:
					if err == nil || err.Error() != want.Error() {
						t.Errorf("error %v, want %v", err, want)
					}
				case <-time.After(muchLater):
					t.Fatal("still under way")
				}
				s.Close()
				if _, err := s.Send(t.Context(), &Request{URL: url}); !errors.Is(err, ErrClosed) {
					t.Errorf("after Close: %v", err)
				}
			})
		}
	}
}

// TestBytes holds the request to the byte.
func TestBytes(t *testing.T) {
	got := make(chan string, 1)
	r := receive(t, func(r *receiver, c net.Conn, br *bufio.Reader) {
		var b strings.Builder
		for !strings.HasSuffix(b.String(), "{}") {
			c, err := br.ReadByte()
			if err != nil {
				break
			}
			b.WriteByte(c)
		}
		got <- b.String()
		io.WriteString(c, ok)
	})
	s := newSender(t, patient())
	o, err := s.Send(t.Context(), &Request{
		URL:     "http://" + r.addr + "/a%2Fb/../ü?q=1 2&x=é",
		Headers: []dialect.Header{{Name: "X-TetraFi-WebhookId", Value: "wh_1"}, {Name: "webhook-id", Value: "evt_1"}, {Name: "x-UTF", Value: "ü\t"}},
		Body:    []byte("{}"),
	})
	if err != nil || !o.OK() {
		t.Fatal(o, err)
	}
	want := "POST /a%2Fb/../%C3%BC?q=1%202&x=%C3%A9 HTTP/1.1\r\n" +
		"Host: " + r.addr + "\r\n" +
		"User-Agent: sluice/test\r\n" +
		"Content-Type: application/json\r\n" +
		"Content-Length: 2\r\n" +
		"X-TetraFi-WebhookId: wh_1\r\n" +
		"webhook-id: evt_1\r\n" +
		"x-UTF: ü\t\r\n" +
		"\r\n{}"
	if g := <-got; g != want {
		t.Errorf("sent\n%q, want\n%q", g, want)
	}
}

// TestHeaders holds that a header that can't go out as it is stops the request.
func TestHeaders(t *testing.T) {
	r, s := receive(t, answer(ok)), newSender(t, local())
	for _, h := range []dialect.Header{
		{Name: "X", Value: "a\r\nY: b"}, {Name: "X", Value: "a\nb"}, {Name: "X", Value: "a\x00"}, {Name: "X", Value: "\x7f"},
		{Name: "X\r\nY", Value: "a"}, {Name: "X ", Value: "a"}, {Name: "X:", Value: "a"}, {Name: "", Value: "a"}, {Name: "Ü", Value: "a"},
		{Name: "host", Value: "a"}, {Name: "Content-length", Value: "1"}, {Name: "transfer-encoding", Value: "chunked"}, {Name: "Connection", Value: "close"},
	} {
		o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr + "/", Headers: []dialect.Header{h}})
		if err != nil || o.Class != delivery.Protocol {
			t.Errorf("%q: outcome %s, %v", h, o.Class, err)
		}
	}
	if n := r.accepts.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestRetryAfter(t *testing.T) {
	r := receive(t, func(r *receiver, c net.Conn, br *bufio.Reader) {
		for {
			req, _, whole := r.request(br)
			if !whole {
				return
			}
			io.WriteString(c, "HTTP/1.1 "+req.URL.Path[1:]+" X\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n")
		}
	})
	s := newSender(t, patient())
	for status, want := range map[string]bool{"429": true, "503": true, "500": false, "200": false} {
		o, err := s.Send(t.Context(), &Request{URL: "http://" + r.addr + "/" + status})
		if err != nil {
			t.Fatal(err)
		}
		if got := o.RetryAt.Sub(o.Started.Add(o.Took)); want && got != 10*time.Second || !want && !o.RetryAt.IsZero() {
			t.Errorf("%s: retry at %v", status, o.RetryAt)
		}
	}
}
