package drive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answers gives them in turn, as a process would on /metrics; of an empty one there is
// no answer, and one in brackets comes late.
type answers []string

const late = 1750 * time.Millisecond

func (a *answers) RoundTrip(*http.Request) (*http.Response, error) {
	if len(*a) == 0 {
		return nil, errors.New("asked once more than it should be")
	}
	text := (*a)[0]
	*a = (*a)[1:]
	if text == "" {
		return nil, errors.New("connection refused")
	}
	if strings.HasPrefix(text, "(") {
		time.Sleep(late)
	}
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(strings.Trim(text, "()")))}, nil
}

func shows(cpu, memoryMB, lane, fanout float64, written int, aged float64) string {
	return fmt.Sprintf("# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %g\n# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %g\n"+
		"# TYPE sluice_lane_lag_seconds gauge\nsluice_lane_lag_seconds{lane=\"0\"} 0.001\nsluice_lane_lag_seconds{lane=\"1\"} %g\n"+
		"# TYPE sluice_fanout_oldest_seconds gauge\nsluice_fanout_oldest_seconds{environment=\"live\"} %g\n"+
		"# TYPE sluice_stream_lag_seconds histogram\nsluice_stream_lag_seconds_bucket{le=\"+Inf\"} %d\nsluice_stream_lag_seconds_sum %g\nsluice_stream_lag_seconds_count %d\n",
		cpu, memoryMB*(1<<20), lane, fanout, written, aged, written)
}

// TestServers looks at a process that works, is killed, and comes back with its
// counters at 0.
func TestServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{Server: Server{URL: "http://10.0.0.7:9090/metrics"}, client: http.Client{Timeout: scrapeWithin, Transport: &answers{
			shows(10, 50, 0, 0, 100, 5), shows(10.5, 64, 0.25, 0.5, 120, 5.5), "", shows(0.25, 32, 2, 0, 0, 0), shows(1.25, 33, 0, 0, 0, 0),
			"(" + shows(2.125, 34, 0, 0, 0, 0) + ")", shows(2.25, 35, 0, 0, 0, 0), shows(2.5, 35, 0, 0, 0, 0), shows(3.125, 36, 0, 0, 0, 0),
		}}}
		began := time.Now()
		stop, cancel := context.WithTimeout(t.Context(), 8500*time.Millisecond)
		defer cancel()
		s.watch(stop, began)
		want := []Sample{
			{At: 1, CPU: 0.5, RSS: 64, Webhooks: 500, Streams: 25},
			{At: 3, CPU: 0.125, RSS: 32, Webhooks: 2000},
			{At: 4, CPU: 1, RSS: 33, Webhooks: 1},
			{At: 6.75, CPU: 0.875 / 2.75, RSS: 34, Webhooks: 1}, // and just then, and at 7, it is too soon
			{At: 8, CPU: 0.8, RSS: 36, Webhooks: 1},
		}
		if !reflect.DeepEqual(s.Samples, want) || s.Unanswered != 1 {
			t.Errorf("%d times unanswered, and\n%+v, not\n%+v", s.Unanswered, s.Samples, want)
		}
		if got, want := s.Sum(), (Sum{CPU: (0.5 + 0.125*2 + 1 + 0.875 + 1) / 8, CPUPeak: 1, RSS: 64, Webhooks: 2000}); got != want || s.Name() != "10.0.0.7:9090" {
			t.Errorf("%s comes to %+v, not %+v", s.Name(), got, want)
		}
	})
}

// TestServersThatAreNone are found out before anything is published.
func TestServersThatAreNone(t *testing.T) {
	for _, c := range []struct{ shows, says string }{
		{"", "connection refused; --metrics takes the --ops addresses"},
		{"<html>", "read metrics: http://x/metrics: text format parsing error"},
		{"# TYPE go_goroutines gauge\ngo_goroutines 7\n", "without a process's CPU time"},
	} {
		s := &server{Server: Server{URL: "http://x/metrics"}, client: http.Client{Transport: &answers{c.shows}}}
		if _, _, err := s.ask(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, not %q", c.shows, err, c.says)
		}
	}
	s := &server{Server: Server{URL: "http://x/metrics"}, client: http.Client{Transport: endless{}}}
	if _, _, err := s.ask(t.Context()); err == nil {
		t.Error("an answer without an end is taken")
	}
}

// endless is a process whose metrics never end.
type endless struct{}

func (endless) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Body: io.NopCloser(endless{})}, nil
}

func (endless) Read(b []byte) (int, error) {
	return copy(b, bytes.Repeat([]byte("# \n"), 1+len(b)/3)), nil
}
