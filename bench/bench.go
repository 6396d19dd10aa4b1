// Package bench measures the whole product beside its floor: the least that any
// program must spend to do the same work on this machine. Floor and product run
// as processes of their own, in turns, in one run; this process makes the load
// and is never counted.
//
//	bench.go     Run: rounds, medians, the table
//	result.go    the same as figures, for files; machine.go says where they are from
//	compare.go   whether rows are better or worse than those of another run
//	process.go   child processes and their CPU time; profile.go takes profiles of them
//	ingest.go    events in: singles, batches, at a pace
//	fanout.go    one event to many WebSocket connections, at a pace
//	saturate.go  the same as fast as it goes
//	sse.go       the same over server-sent events
//	stalled.go   the same, with clients that never read
//	resume.go    clients that come back at once, with cursors; comeback.go is their process
//	idle.go      connections that get nothing: memory, and what they cost to make
//	webhook.go   signed POSTs to one endpoint, and to a hundred
//	receipt.go   the same at a pace: how long from publish to receipt
//	hang.go      endpoints that answer, beside 2,000 requests that hang
//	many.go      100,000 endpoints
//	retries.go   a million retries, due at one instant
//	start.go     exec to ready over a log that has much in it
//	fill.go      how much gets into it
//	seed.go      what a data directory holds before the product starts
//	handover.go  lanes that go from one process to another
//	floor.go     what the floor's processes do
//	client.go    the WebSocket population of this process
//	receiver.go  its receiver of webhooks
//
// The figure that matters is CPU time per unit of work: on a shared machine,
// rates and latencies say more about the neighbours.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Config says what to run.
type Config struct {
	Binary string    // the sluice to measure
	Rows   []string  // names of rows; empty: those that take no longer than a minute a round
	Rounds int       // of floor and product each
	Out    io.Writer // the table; progress goes there too
	Start  Start     // what the row start begins with
	// Brokers are where the row handover has its log: host:port, commas between.
	Brokers string
	// Profile is a directory for the product's profiles, two files a row; empty: none are
	// made. They cost the product CPU time, a few parts in a hundred.
	Profile string

	profiles *profiles // of the row that is measured; nil: none
}

// sample is what one run of one side gave.
type sample struct {
	cpu   float64 // seconds per unit
	rate  float64 // work per second
	p50   time.Duration
	p99   time.Duration
	rssMB float64
	apart float64  // cpu, less what the same events cost where nobody gets them; 0: not measured
	more  []figure // what else the row measures, in the same order every time
}

// figure is one number of a sample that has no column.
type figure struct {
	name  string
	value float64
}

// row is one line of the table: the same work, done by the floor and by the product.
type row struct {
	name, what, unit string
	// unasked says why the row is measured only where it is named; empty: it always is.
	unasked        string
	floor, product func(ctx context.Context, cfg *Config) (sample, error)
	// prepare does what is done once before all rounds; undo is called behind them.
	// nil: nothing is.
	prepare func(ctx context.Context, cfg *Config) (undo func(), err error)
	// figures does one round of a row that isn't about CPU time and has no floor.
	figures func(ctx context.Context, cfg *Config) ([]figure, error)
}

var rows = []row{ingestRow, batchRow, paceRow, fanoutRow, saturateRow, fewRow, sseRow, webhookRow, spreadRow, receiptRow, stalledRow, wideRow, deflateRow, idleRow, idleSSERow, resumeRow, hangRow, manyRow, retriesRow, startRow, handoverRow}

// Names lists the rows that can be asked for: those that are measured when none is
// named, and those that aren't.
func Names() (usual, unasked []string) {
	for _, r := range rows {
		if r.unasked == "" {
			usual = append(usual, r.name)
		} else {
			unasked = append(unasked, r.name)
		}
	}
	return usual, unasked
}

// Run measures the rows and prints each as it is done; at the end it names those
// that weren't asked for. Where a row fails, the result has those before it.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("the CPU time of processes is read as Linux tells it: run this there")
	}
	var left []string
	result := &Result{Began: time.Now().UTC(), Machine: ThisMachine(), Rows: []RowResult{}}
	for _, r := range rows {
		switch named := slices.Contains(cfg.Rows, r.name); {
		case len(cfg.Rows) == 0 && r.unasked != "":
			left = append(left, fmt.Sprintf("%s (%s)", r.name, r.unasked))
			continue
		case len(cfg.Rows) > 0 && !named:
			continue
		}
		row, err := r.run(ctx, &cfg)
		if err != nil {
			return result, err
		}
		result.Rows = append(result.Rows, row)
	}
	if len(left) > 0 {
		fmt.Fprintf(cfg.Out, "Not measured unless named: %s.\n", strings.Join(left, ", "))
	}
	return result, nil
}

func (r *row) run(ctx context.Context, cfg *Config) (_ RowResult, err error) {
	fmt.Fprintf(cfg.Out, "%s: %s\n", r.name, r.what)
	if r.prepare != nil {
		undo, err := r.prepare(ctx, cfg)
		defer undo()
		if err != nil {
			return RowResult{}, fmt.Errorf("prepare %s: %w", r.name, err)
		}
	}
	if cfg.Profile != "" {
		cfg.profiles = &profiles{dir: cfg.Profile, row: r.name}
		defer func() {
			if err == nil {
				err = cfg.profiles.write()
			}
			cfg.profiles = nil
		}()
	}
	if r.figures != nil {
		return r.alone(ctx, cfg)
	}
	var floor, product []sample
	for i := range cfg.Rounds {
		f, err := r.floor(ctx, cfg)
		if err != nil {
			return RowResult{}, fmt.Errorf("measure floor of %s: %w", r.name, err)
		}
		p, err := r.product(ctx, cfg)
		if err != nil {
			return RowResult{}, fmt.Errorf("measure %s: %w", r.name, err)
		}
		fmt.Fprintf(cfg.Out, "  round %d of %d: floor %.4f, sluice %.4f %s\n", i+1, cfg.Rounds, f.cpu, p.cpu, r.unit)
		floor, product = append(floor, f), append(product, p)
	}
	r.print(cfg, floor, product)
	return r.result(floor, product), nil
}

// alone measures a row that has no floor.
func (r *row) alone(ctx context.Context, cfg *Config) (RowResult, error) {
	var all []sample
	for i := range cfg.Rounds {
		figures, err := r.figures(ctx, cfg)
		if err != nil {
			return RowResult{}, fmt.Errorf("measure %s: %w", r.name, err)
		}
		fmt.Fprintf(cfg.Out, "  round %d of %d:\n", i+1, cfg.Rounds)
		for _, f := range figures {
			fmt.Fprintf(cfg.Out, "    %10.2f %s\n", f.value, f.name)
		}
		all = append(all, sample{more: figures})
	}
	fmt.Fprintf(cfg.Out, "  %-8s %28s\n", "", "min/med/max")
	more(cfg.Out, "sluice", all)
	fmt.Fprintln(cfg.Out)
	return r.result(nil, all), nil
}

func (r *row) print(cfg *Config, floor, product []sample) {
	fmt.Fprintf(cfg.Out, "  %-8s %28s %12s %11s %11s %8s\n", "", r.unit+" min/med/max", "per second", "p50", "p99", "RSS MB")
	print := func(name string, s []sample) {
		cpu := of(s, func(s sample) float64 { return s.cpu })
		fmt.Fprintf(cfg.Out, "  %-8s %10.4f/%8.4f/%8.4f %12.0f %11s %11s %8s\n", name, cpu[0], median(cpu), cpu[len(cpu)-1],
			median(of(s, func(s sample) float64 { return s.rate })),
			latency(s, func(s sample) time.Duration { return s.p50 }),
			latency(s, func(s sample) time.Duration { return s.p99 }),
			orDash(fmt.Sprintf("%.0f", median(of(s, func(s sample) float64 { return s.rssMB }))), "0"))
	}
	print("floor", floor)
	print("sluice", product)
	more(cfg.Out, "floor", floor)
	more(cfg.Out, "sluice", product)
	least := median(of(floor, func(s sample) float64 { return s.cpu }))
	fmt.Fprintf(cfg.Out, "  sluice spends %.2f times the floor (medians of %d rounds)\n", median(of(product, func(s sample) float64 { return s.cpu }))/least, cfg.Rounds)
	if apart := median(of(product, func(s sample) float64 { return s.apart })); apart > 0 {
		fmt.Fprintf(cfg.Out, "  without ingest and log, %.4f and %.2f times the floor\n", apart, apart/least)
	}
	fmt.Fprintln(cfg.Out)
}

// more prints the figures that have no column.
func more(out io.Writer, name string, samples []sample) {
	for i, f := range samples[0].more {
		v := of(samples, func(s sample) float64 { return s.more[i].value })
		fmt.Fprintf(out, "  %-8s %10.2f/%8.2f/%8.2f %s\n", name, v[0], median(v), v[len(v)-1], f.name)
	}
}

// latency gives the median of a latency; a dash where the row measures none.
func latency(samples []sample, get func(sample) time.Duration) string {
	d := time.Duration(median(of(samples, func(s sample) float64 { return float64(get(s)) })))
	return orDash(d.Round(10*time.Microsecond).String(), "0s")
}

func orDash(text, none string) string {
	if text == none {
		return "–"
	}
	return text
}

func of(samples []sample, get func(sample) float64) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = get(s)
	}
	slices.Sort(out)
	return out
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
