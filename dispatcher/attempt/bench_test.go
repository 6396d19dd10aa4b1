package attempt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// benchReceiver makes this test binary be the receiver, in a process of its own,
// so that the CPU measured is the sender's alone.
const benchReceiver = "ATTEMPT_BENCH_RECEIVER"

func runBenchReceiver() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	// It ends with its standard input: with the process that started it.
	go func() { io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	fasthttp.Serve(l, func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") })
}

// BenchmarkSend measures the CPU of building, signing and sending 500 bytes over
// kept connections, here and, for comparison, with the clients of net/http and
// fasthttp. 64 senders at a time.
func BenchmarkSend(b *testing.B) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchReceiver+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	url := "http://" + strings.TrimSpace(addr) + "/hook"

	b.Run("ours", func(b *testing.B) {
		cfg := local()
		cfg.Total, cfg.PerHost = 30*time.Second, 64
		s := newSender(b, cfg)
		benchmarkSend(b, url, func(ctx context.Context, r *Request) error {
			o, err := s.Send(ctx, r)
			if err == nil && !o.OK() {
				err = errors.New(o.Detail)
			}
			return err
		})
	})
	b.Run("net-http", func(b *testing.B) {
		tr := &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: 16 << 10, MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64,
			DialContext: (&net.Dialer{Control: NewGuard(true, local().AllowPrivate).control}).DialContext}
		client := &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		b.Cleanup(tr.CloseIdleConnections)
		benchmarkSend(b, url, func(ctx context.Context, r *Request) error {
			ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", r.URL, bytes.NewReader(r.Body))
			if err != nil {
				return err
			}
			req.Header["User-Agent"] = []string{"sluice/test"}
			req.Header["Content-Type"] = []string{"application/json"}
			for _, h := range r.Headers {
				req.Header[h.Name] = []string{h.Value}
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
			return err
		})
	})
	b.Run("fasthttp", func(b *testing.B) {
		d := &net.Dialer{Control: NewGuard(true, local().AllowPrivate).control}
		client := &fasthttp.Client{
			Name: "sluice/test", DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true, MaxConnsPerHost: 64,
			ReadBufferSize: 16 << 10, MaxResponseBodySize: maxBody, MaxIdemponentCallAttempts: 1,
			Dial: func(addr string) (net.Conn, error) { return d.Dial("tcp", addr) },
		}
		b.Cleanup(client.CloseIdleConnections)
		benchmarkSend(b, url, func(_ context.Context, r *Request) error {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.Header.DisableNormalizing()
			req.Header.SetMethod("POST")
			req.SetRequestURI(r.URL)
			req.Header.SetContentType("application/json")
			for _, h := range r.Headers {
				req.Header.Set(h.Name, h.Value)
			}
			req.SetBodyRaw(r.Body)
			return client.DoTimeout(req, resp, 30*time.Second)
		})
	})
}

func benchmarkSend(b *testing.B, url string, send func(context.Context, *Request) error) {
	ep := &endpoint.Endpoint{ID: "wh_1", URL: url, Secret: endpoint.Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")}
	ev := &event.Event{ID: "evt_1", Type: "a.b", Environment: event.Live, Data: fmt.Appendf(nil, `{"a":%q}`, strings.Repeat("x", 492))}
	d := delivery.New(ev, ep.ID, 0)
	hook := &dialect.Webhook{AppendBody: stub.AppendBody, AppendHeaders: func(dst []dialect.Header, a *dialect.Attempt) []dialect.Header {
		return append(dst, dialect.Header{Name: "X-One", Value: a.EventID}, dialect.Header{Name: "X-Two", Value: a.EventType}, dialect.Header{Name: "X-Three", Value: a.DeliveryID})
	}}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
	before := cpu(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		var r Request
		for pb.Next() {
			Build(&r, hook, d, ep, 1, time.Now())
			if err := send(ctx, &r); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N)*10_000, "cpu-s/10k")
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
