package attempt

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// TestExchange: what is told of an attempt is what went over the wire, without
// what the endpoint's owner keeps in a header.
func TestExchange(t *testing.T) {
	ca := newAuthority(t)
	heard := make(chan string, 2)
	long := strings.Repeat("0123456789abcdef", 2<<10)
	r := receiveOn(t, "127.0.0.1:0", ca.issue(t, "good.example", time.Now().Add(time.Hour)), func(r *receiver, c net.Conn, br *bufio.Reader) {
		for {
			var asked bytes.Buffer
			head := bufio.NewReader(io.TeeReader(br, &asked))
			if _, _, ok := r.request(head); !ok {
				return
			}
			text, _, _ := strings.Cut(asked.String(), "\r\n\r\n")
			heard <- text + "\r\n"
			time.Sleep(3 * time.Millisecond) // the least that the first byte takes
			io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 32768\r\n\r\n"+long)
		}
	})
	_, port, _ := net.SplitHostPort(r.addr)
	cfg := patient()
	cfg.RootCAs = ca.pool
	cfg.Resolver = resolver(t, map[string]string{"good.example.": "127.0.0.1"})
	s := newSender(t, cfg)
	ep := &endpoint.Endpoint{ID: "wh_1", URL: "https://good.example:" + port + "/hook?token=hidden", Secret: endpoint.Secret("12345678")}
	d := delivery.New(&event.Event{ID: "evt_1", Type: "a.b", Environment: event.Live, Data: []byte(`{}`)}, ep.ID, 0)
	for i, reused := range []bool{false, true} {
		var req Request
		Build(&req, stub, d, ep, 1, time.Now())
		req.Headers = append(req.Headers, dialect.Header{Name: "Authorization", Value: "Bearer hidden"})
		o, err := s.Send(t.Context(), &req)
		if err != nil || o.Status != 500 {
			t.Fatalf("%+v, %v", o, err)
		}
		x := req.Exchange
		_, sent, _ := strings.Cut(<-heard, "\r\n")
		if want := strings.Replace(sent, "Bearer hidden", "[redacted]", 1); string(x.Headers) != want || strings.Contains(want, "hidden") {
			t.Errorf("request %d: headers\n%s, want\n%s", i, x.Headers, want)
		}
		if !strings.Contains(sent, "webhook-signature: v1,") || !strings.Contains(sent, "Bearer hidden") {
			t.Errorf("request %d: sent\n%s", i, sent)
		}
		if string(x.Answer) != long[:delivery.MaxAnswer] {
			t.Errorf("request %d: %d bytes of the answer", i, len(x.Answer))
		}
		tm := x.Timing
		if tm.Reused != reused || (tm.DNS > 0) == reused || (tm.Connect > 0) == reused || (tm.TLS > 0) == reused ||
			tm.FirstByte < 3*time.Millisecond || tm.Total < tm.DNS+tm.Connect+tm.TLS+tm.FirstByte || tm.Total < o.Took {
			t.Errorf("request %d: %+v, in all %v", i, tm, o.Took)
		}
	}
	// Where nothing was sent there is nothing to tell.
	req := Request{URL: "https://none.example:" + port + "/", Body: []byte(`{}`)}
	if o, err := s.Send(t.Context(), &req); err != nil || o.Class != delivery.DNS {
		t.Fatalf("%+v, %v", o, err)
	}
	if x := req.Exchange; x.Headers != nil || x.Answer != nil || x.Timing.DNS == 0 || x.Timing.TLS != 0 {
		t.Errorf("without a host: %+v", x)
	}
}
