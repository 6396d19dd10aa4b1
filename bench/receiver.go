package bench

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fasthttp"
)

// receiver takes webhooks, answers 200 at once, and counts. It does no more than it
// must: it shares the machine with what is measured.
type receiver struct {
	server  fasthttp.Server
	address string
	got     atomic.Int64
	timed   map[string]*latencies // by path, of requests that say when they were sent

	hangs   atomic.Bool // whoever asks for hangPath gets no answer
	hanging atomic.Int64
	end     chan struct{}
}

const hangPath = "/hang"

// startReceiver starts one that notes latencies by path.
func startReceiver(timed map[string]*latencies) (*receiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{address: ln.Addr().String(), timed: timed, end: make(chan struct{})}
	r.server.Handler = r.take
	go r.server.Serve(ln)
	return r, nil
}

func (r *receiver) take(ctx *fasthttp.RequestCtx) {
	if r.hangs.Load() && string(ctx.Path()) == hangPath {
		r.hanging.Add(1)
		<-r.end
		return
	}
	r.got.Add(1)
	if l := r.timed[string(ctx.Path())]; l != nil {
		l.observe(ctx.PostBody())
	}
}

// stop answers whoever hangs, and ends.
func (r *receiver) stop() {
	close(r.end)
	r.server.Shutdown()
}

// await waits until n requests have come. Half a minute in which none does is too
// long.
func (r *receiver) await(n int64) error {
	last, idle := int64(-1), 0
	for r.got.Load() < n {
		if got := r.got.Load(); got != last {
			last, idle = got, 0
		} else if idle++; idle > 30_000 {
			return fmt.Errorf("%d of %d deliveries came", got, n)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// sentMark stands in front of the time at which an event was sent: nanoseconds
// of this process's monotonic clock, always 15 digits, so that messages have one size.
var sentMark = []byte(`"sent":"`)

var clockStart = time.Now()

func appendNow(dst []byte) []byte { return appendSent(dst, time.Now()) }

func appendSent(dst []byte, at time.Time) []byte {
	return fmt.Appendf(dst, "%015d", at.Sub(clockStart).Nanoseconds())
}

// latencies are how long marked messages took.
type latencies struct {
	mu sync.Mutex
	of *hdrhistogram.Histogram // microseconds
}

func newLatencies() *latencies { return &latencies{of: hdrhistogram.New(1, 120_000_000, 3)} }

// observe notes how long a message took, if it says when it was sent.
func (l *latencies) observe(message []byte) {
	i := bytes.Index(message, sentMark)
	if i < 0 || len(message) < i+len(sentMark)+15 {
		return
	}
	sent, err := strconv.ParseInt(string(message[i+len(sentMark):][:15]), 10, 64)
	if err != nil {
		return
	}
	took := time.Since(clockStart).Nanoseconds() - sent
	l.mu.Lock()
	l.of.RecordValue(took / 1000)
	l.mu.Unlock()
}

func (l *latencies) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.of.ValueAtQuantile(q)) * time.Microsecond
}

func (l *latencies) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of.TotalCount()
}

func (l *latencies) reset() {
	l.mu.Lock()
	l.of.Reset()
	l.mu.Unlock()
}
