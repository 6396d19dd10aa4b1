package drive

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Server is what a process of the deployment showed of itself, second by second. One
// that answers late has fewer samples.
type Server struct {
	URL        string   `json:"url"`        // of its metrics
	Unanswered int      `json:"unanswered"` // times that it was asked in vain
	Samples    []Sample `json:"samples"`
}

// Sample is what a process showed at one moment.
type Sample struct {
	At       float64 `json:"at"`       // seconds since the beginning
	CPU      float64 `json:"cpu"`      // processors that it used since the sample before
	RSS      float64 `json:"rssMB"`    // memory that it has
	Webhooks float64 `json:"webhooks"` // ms: age of the oldest that isn't fanned out, or that its lanes haven't taken
	Streams  float64 `json:"streams"`  // ms: mean age of what was written to streams since the sample before; 0: nothing was
}

// Sum is what samples come to. What there is none of is 0.
type Sum struct {
	CPU, CPUPeak  float64 // processors: on average, and at most
	RSS, Webhooks float64 // at most: MB, ms
}

// Sum sums samples up.
func (s *Server) Sum() (sum Sum) {
	before := 0.0
	for _, a := range s.Samples {
		sum.CPU += a.CPU * (a.At - before) / s.Samples[len(s.Samples)-1].At
		before = a.At
		sum.CPUPeak, sum.RSS, sum.Webhooks = max(sum.CPUPeak, a.CPU), max(sum.RSS, a.RSS), max(sum.Webhooks, a.Webhooks)
	}
	return sum
}

// Name is the host and port of a process.
func (s *Server) Name() string {
	if u, err := url.Parse(s.URL); err == nil && u.Host != "" {
		return u.Host
	}
	return s.URL
}

// MostServers is how many processes are looked at.
const MostServers = 16

const (
	scrapeWithin  = 5 * time.Second
	leastApart    = time.Second / 2 // else how late the two answers were would be most of what lies between
	mostOfMetrics = 1 << 20         // bytes of one answer
)

// server asks one process for its metrics.
type server struct {
	Server
	client http.Client
	before counters
}

// counters are what grows while a process runs.
type counters struct {
	at            time.Time
	cpu           float64 // seconds
	written, aged float64 // to streams: how many times, and the sum of their ages in seconds
}

// servers finds out that all of them answer, and from where they begin.
func servers(ctx context.Context, urls []string) (all []*server, err error) {
	for _, url := range urls {
		s := &server{Server: Server{URL: url}, client: http.Client{Timeout: scrapeWithin}}
		if s.before, _, err = s.ask(ctx); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// watchServers asks all of them once a second until ctx ends.
func watchServers(ctx context.Context, all []*server, began time.Time) {
	var asking sync.WaitGroup
	for _, s := range all {
		asking.Go(func() { s.watch(ctx, began) })
	}
	asking.Wait()
}

func (s *server) watch(ctx context.Context, began time.Time) {
	defer s.client.CloseIdleConnections()
	if now, _, err := s.ask(ctx); err == nil { // what it did before all were in place doesn't count
		s.before = now
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		now, sample, err := s.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.Unanswered++
			continue
		case now.at.Sub(s.before.at) < leastApart:
			continue
		}
		then := s.before
		if now.cpu < then.cpu { // it is another process now
			then = counters{at: then.at}
		}
		sample.At = now.at.Sub(began).Seconds()
		sample.CPU = (now.cpu - then.cpu) / now.at.Sub(then.at).Seconds()
		if n := now.written - then.written; n > 0 {
			sample.Streams = 1000 * (now.aged - then.aged) / n
		}
		s.before, s.Samples = now, append(s.Samples, sample)
	}
}

// ask reads what the process shows now: of a sample, what needs no sample before.
func (s *server) ask(ctx context.Context) (now counters, sample Sample, err error) {
	fail := func(err error) (counters, Sample, error) {
		return counters{}, Sample{}, fmt.Errorf("read metrics: %w; --metrics takes the --ops addresses of the deployment's processes", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return fail(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	shown, err := parser.TextToMetricFamilies(io.LimitReader(resp.Body, mostOfMetrics))
	if err != nil {
		return fail(fmt.Errorf("%s: %w", s.URL, err))
	}
	if resp.StatusCode != http.StatusOK || shown["process_cpu_seconds_total"] == nil {
		return fail(fmt.Errorf("%s answers %s, without a process's CPU time", s.URL, resp.Status))
	}
	now = counters{at: time.Now(), cpu: shown["process_cpu_seconds_total"].GetMetric()[0].GetCounter().GetValue()}
	for _, m := range shown["sluice_stream_lag_seconds"].GetMetric() {
		now.written += float64(m.GetHistogram().GetSampleCount())
		now.aged += m.GetHistogram().GetSampleSum()
	}
	sample.RSS = largest(shown["process_resident_memory_bytes"]) / (1 << 20)
	sample.Webhooks = 1000 * max(largest(shown["sluice_lane_lag_seconds"]), largest(shown["sluice_fanout_oldest_seconds"]))
	return now, sample, nil
}

// largest is that of a gauge with any labels; 0 where there is none.
func largest(of *dto.MetricFamily) (value float64) {
	for _, m := range of.GetMetric() {
		value = max(value, m.GetGauge().GetValue())
	}
	return value
}
