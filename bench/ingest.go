package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fasthttp"

	"sluice/pkg/freeport"
)

const (
	ingestConnections = 32
	ingestBytes       = 300 // of an event, as it is sent
	ingestEvents      = 100_000
	batchEvents       = 1_000_000
	batchSize         = 1000
	paceRate          = 1000 // requests per second
	paceFor           = 5 * time.Second
)

// The ingest rows: the floor is an HTTP server that writes bodies to a file and
// answers once they are synced, all who wait sharing one sync; the product also
// checks each event and makes it readable.
var (
	ingestRow = ingest{
		row:    row{name: "ingest", what: fmt.Sprintf("single events over %d connections, answered when durable, %d bytes", ingestConnections, ingestBytes), unit: "CPU-s per million"},
		events: ingestEvents, perRequest: 1,
	}.asRow()
	batchRow = ingest{
		row:    row{name: "batch", what: fmt.Sprintf("batches of %d events over %d connections, answered when durable, %d bytes each", batchSize, batchConnections, ingestBytes), unit: "CPU-s per million"},
		events: batchEvents, perRequest: batchSize,
	}.asRow()
	paceRow = ingest{
		row:    row{name: "pace", what: fmt.Sprintf("%d single events a second, each answered when durable; latency from when it was due", paceRate), unit: "CPU-s per million"},
		events: int(paceFor.Seconds()) * paceRate, perRequest: 1, every: time.Second / paceRate,
	}.asRow()
)

// batchConnections are enough for batches to overlap.
const batchConnections = 4

// ingest is a row that publishes.
type ingest struct {
	row
	events, perRequest int
	every              time.Duration // between requests; 0: as fast as they are answered
}

func (in ingest) asRow() row {
	in.floor, in.product = in.runFloor, in.runProduct
	return in.row
}

func (in ingest) runFloor(ctx context.Context, cfg *Config) (sample, error) {
	address, err := freeport.Address()
	if err != nil {
		return sample{}, err
	}
	p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "sync", address, "0", "0")
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	conn, err := dialRetrying(address)
	if err != nil {
		return sample{}, err
	}
	conn.Close()
	return in.run(p, "http://"+address+"/v1/events", "")
}

func (in ingest) runProduct(ctx context.Context, cfg *Config) (sample, error) {
	p, err := startProduct(ctx, cfg)
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	return in.run(p.process, p.url+"/v1/events", p.key)
}

// run publishes a tenth to warm up, then all of it between two looks at the CPU
// clock.
func (in ingest) run(p *process, url, token string) (sample, error) {
	if _, _, err := in.publish(url, token, in.events/10); err != nil {
		return sample{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	latency, took, err := in.publish(url, token, in.events)
	if err != nil {
		return sample{}, err
	}
	after, err := p.cpu()
	return sample{
		cpu:   (after - before) / float64(in.events) * 1e6,
		rate:  float64(in.events) / took.Seconds(),
		p50:   time.Duration(latency.ValueAtQuantile(50)) * time.Microsecond,
		p99:   time.Duration(latency.ValueAtQuantile(99)) * time.Microsecond,
		rssMB: p.rssMB(),
	}, err
}

// publish sends n events. Where requests are paced, their latency counts from
// when they were due, so that a server that stalls isn't spared.
func (in ingest) publish(url, token string, n int) (*hdrhistogram.Histogram, time.Duration, error) {
	one := `{"type":"bench.tick","data":{"pad":"` + strings.Repeat("x", ingestBytes-40) + `"}}`
	body, contentType, connections := one, "application/json", ingestConnections
	if in.perRequest > 1 {
		body, contentType, connections = strings.Repeat(one+"\n", in.perRequest), "application/x-ndjson", batchConnections
	}
	client := fasthttp.Client{MaxConnsPerHost: connections, ReadTimeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	var (
		sent    atomic.Int64
		workers sync.WaitGroup
		mu      sync.Mutex
		failed  error
	)
	all := hdrhistogram.New(1, 60_000_000, 3)
	begun := time.Now()
	for range connections {
		workers.Go(func() {
			own := hdrhistogram.New(1, 60_000_000, 3)
			err := in.worker(&client, url, token, contentType, body, begun, &sent, int64(n/in.perRequest), own)
			mu.Lock()
			defer mu.Unlock()
			all.Merge(own)
			if err != nil {
				failed = err
			}
		})
	}
	workers.Wait()
	return all, time.Since(begun), failed
}

func (in ingest) worker(client *fasthttp.Client, url, token, contentType, body string, begun time.Time, sent *atomic.Int64, requests int64, latency *hdrhistogram.Histogram) error {
	var req fasthttp.Request
	var resp fasthttp.Response
	for {
		i := sent.Add(1) - 1
		if i >= requests {
			return nil
		}
		due := time.Now()
		if in.every > 0 {
			due = begun.Add(time.Duration(i) * in.every)
			time.Sleep(time.Until(due))
		}
		req.SetRequestURI(url)
		req.Header.SetMethod(fasthttp.MethodPost)
		req.Header.SetContentType(contentType)
		req.Header.Set("Authorization", "Bearer "+token)
		req.SetBodyString(body)
		if err := client.Do(&req, &resp); err != nil {
			return err
		}
		if resp.StatusCode() != fasthttp.StatusAccepted {
			return fmt.Errorf("publish: status %s: %s", strconv.Itoa(resp.StatusCode()), resp.Body())
		}
		latency.RecordValue(time.Since(due).Microseconds())
	}
}
