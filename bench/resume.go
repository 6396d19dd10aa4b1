package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	resumeClients = 10_000
	resumeMissed  = 100 // events that each has missed
	resumeLive    = 100 // connections that are served meanwhile
	resumeRate    = 50  // events per second for these
	resumeMeasure = 6 * time.Second
	resumeWithin  = 2 * time.Minute
)

// resumeRow: all come back at once, each with a cursor before what it missed, and
// others are served live meanwhile. First the process has what was missed in
// memory; then it is killed, and all come back to one that has it in its log only.
var resumeRow = row{
	name: "resume",
	what: fmt.Sprintf("%d clients come back at once, %d events behind each; %d connections get %d events/s meanwhile; then the same after kill -9",
		resumeClients, resumeMissed, resumeLive, resumeRate),
	unasked: "it holds 10,000 connections",
	figures: resumeFigures,
}

func resumeFigures(ctx context.Context, cfg *Config) (all []figure, err error) {
	p, err := startProduct(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { p.stop() }()
	cursor, err := p.missed()
	if err != nil {
		return nil, err
	}
	figures, err := p.storm(ctx, cfg, cursor, "from memory")
	if err != nil {
		return nil, err
	}
	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
	again, err := serve(ctx, cfg, filepath.Join(p.dir, "data"), p.key, startWithin)
	if err != nil {
		return nil, err
	}
	again.dir = p.dir
	p = again // the deferred stop is its
	more, err := p.storm(ctx, cfg, cursor, "after kill -9")
	return append(figures, more...), err
}

// What a process says of its memory.
const (
	allocatedBytes  = "go_memstats_alloc_bytes_total"
	collectionsDone = "go_gc_duration_seconds_count"
)

// missed publishes what will have been missed, and gives the cursor before it.
func (p *product) missed() (cursor string, err error) {
	conn, in, err := dialWebSocket(p.ws, p.key)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var lines []byte
	for i := range resumeMissed + 1 {
		lines = fmt.Appendf(lines, `{"type":"bench.missed","data":{"n":"%03d","pad":"%s"}}`+"\n", i, fanoutPad)
	}
	if err := p.publish(lines, "application/x-ndjson"); err != nil {
		return "", err
	}
	first, err := nextFrame(in)
	_, cursor, _ = strings.Cut(string(first), `"cursor":"`)
	cursor, _, _ = strings.Cut(cursor, `"`)
	return cursor, err
}

// connectPublisher makes all connections that publishing may need, so that it needn't
// wait for one behind those who come back.
func (p *product) connectPublisher() error {
	var under errgroup.Group
	for range published {
		under.Go(func() error { return p.publish([]byte(`{"type":"bench.first","data":{}}`), "application/json") })
	}
	return under.Wait()
}

// storm has all clients come back, and looks at those who are served meanwhile.
func (p *product) storm(ctx context.Context, cfg *Config, cursor, name string) ([]figure, error) {
	live, err := p.subscribeTo("bench.tick", resumeLive, false)
	defer live.close()
	if err != nil {
		return nil, err
	}
	if err := p.connectPublisher(); err != nil {
		return nil, err
	}
	publish := func() error { return p.publish(tick(nil, fanoutPad), "application/json") }
	if err := live.hear(resumeRate, fanoutWarm, publish); err != nil {
		return nil, err
	}
	live.latency.reset()
	if err := live.hear(resumeRate, resumeMeasure, publish); err != nil {
		return nil, err
	}
	before := live.latency.quantile(99)
	live.latency.reset()

	allocated, collections := p.metric(allocatedBytes), p.metric(collectionsDone)
	cpuBefore, err := p.cpu()
	if err != nil {
		return nil, err
	}
	clients, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "comeback", p.ws, fmt.Sprint(resumeClients), fmt.Sprint(resumeMissed), p.key, cursor)
	if err != nil {
		return nil, err
	}
	defer clients.stop()
	for !clients.ended() {
		if err := live.hear(resumeRate, 100*time.Millisecond, publish); err != nil {
			return nil, err
		}
	}
	clients.cmd.Wait()
	cpu, err := p.cpu()
	if err != nil {
		return nil, err
	}
	var took, half, refused float64
	if _, err := fmt.Sscanf(clients.stderr.String(), comebackReport, &took, &half, &refused); err != nil {
		return nil, fmt.Errorf("clients that came back %s: %s", name, clients.stderr.String())
	}
	return []figure{
		{"s until all had what they missed, " + name, took},
		{"s until half had, " + name, half},
		{"times that one was told to come later, " + name, refused},
		{"CPU-µs a client, " + name, (cpu - cpuBefore) / resumeClients * 1e6},
		{"KB allocated a client, " + name, (p.metric(allocatedBytes) - allocated) / resumeClients / 1024},
		{"collections of garbage meanwhile, " + name, p.metric(collectionsDone) - collections},
		{"ms p99 live before, " + name, ms(before)},
		{"ms p99 live meanwhile, " + name, ms(live.latency.quantile(99))},
		{"times p99, " + name, ms(live.latency.quantile(99)) / ms(before)},
		{"MB RSS, " + name, p.rssMB()},
	}, nil
}
