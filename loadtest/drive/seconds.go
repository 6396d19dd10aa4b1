package drive

import (
	"context"
	"time"
)

// Second is what came in one second of a run. Times are in milliseconds, and of what
// is timed.
type Second struct {
	At        float64 `json:"at"`                  // seconds since the beginning, at its end
	Published *Lap    `json:"published"`           // nil, here and below: nobody does
	Streamed  *Lap    `json:"streamed,omitempty"`  //
	Delivered *Lap    `json:"delivered,omitempty"` //
	Retries   int64   `json:"retries"`
	CPU       float64 `json:"cpu"` // share of the client's processors
}

// Lap is the rate and the times of one way.
type Lap struct {
	Rate float64 `json:"rate"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// seconds looks at the meters once a second, and keeps what it sees.
type seconds struct {
	run     *run
	began   time.Time
	seen    []Second
	retries int64 // until the last look
}

// watch looks until ctx ends, and then once more: what is seen is all that came.
func (w *seconds) watch(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for before := w.began; ; {
		select {
		case <-every.C:
		case <-ctx.Done():
		}
		// A tick says when it was due; who has been asleep has what came since then, too.
		now := time.Now()
		s := w.look(now, now.Sub(before), ctx.Err() != nil)
		before = now
		w.seen = append(w.seen, s)
		w.run.Each(s)
		if ctx.Err() != nil {
			return
		}
	}
}

// look sums up what took so long until now, of all processes.
func (w *seconds) look(now time.Time, took time.Duration, last bool) Second {
	s := Second{At: now.Sub(w.began).Seconds(), CPU: w.run.headroom.look(w.run.team.look(last))}
	var published, streamed, delivered []*meter
	retries := int64(0)
	for _, of := range w.run.publishers {
		published = append(published, of.meter)
		retries += of.retries.Load() + of.others.Load()
	}
	for _, of := range w.run.streams {
		streamed = append(streamed, of.meter)
	}
	for _, of := range w.run.receivers {
		delivered = append(delivered, of.meter)
	}
	s.Retries, w.retries = retries-w.retries, retries
	s.Published, s.Streamed, s.Delivered = lap(published, took), lap(streamed, took), lap(delivered, took)
	return s
}

// lap sums up what meters have had since the last look.
func lap(meters []*meter, took time.Duration) *Lap {
	if len(meters) == 0 {
		return nil
	}
	all, n := newHistogram(), int64(0)
	for _, m := range meters {
		n += m.look(all)
	}
	q := quantiles(all)
	return &Lap{Rate: float64(n) / took.Seconds(), P50: q.P50, P99: q.P99, Max: q.Max}
}
