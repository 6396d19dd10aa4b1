package drive

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// publishing is a publisher at work. When each request is to be sent is known before
// any is answered, and times count from then: a server that stalls isn't spared the
// requests that come to it meanwhile.
//
//	due ──► a free slot ──► POST ─┬─► 202: acknowledged
//	          │  none: held       ├─► 503, 429, no answer: again, with the same ids
//	                              └─► anything else ends the run
type publishing struct {
	*Publisher
	run   *run
	index int
	slots int    // requests that this process may have under way
	meter *meter // from due to acknowledged

	sent, retries, unanswered atomic.Int64
	others                    atomic.Int64 // retries of other processes
}

// request is one POST: the i-th.
type request struct {
	i   int
	due time.Time
}

// publish sends what is due until the scenario's time is over, or ctx ends. It
// returns when all that was sent is answered, or r.patience ends.
func (p *publishing) publish(ctx context.Context) {
	slots, requests := make(chan struct{}, p.slots), make(chan request, p.slots)
	var workers sync.WaitGroup
	for range p.slots {
		workers.Go(func() {
			w := worker{publishing: p, rnd: p.run.random()}
			for r := range requests {
				w.send(r)
				<-slots
			}
		})
	}
	p.pace(ctx, func(r request) {
		select {
		case slots <- struct{}{}:
		default:
			p.run.headroom.held.Add(1)
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
		requests <- r
	})
	close(requests)
	workers.Wait()
}

// pace begins each request when it is due, or as soon as it may after that. Each of
// several processes has every so-manieth: evenly, theirs lie between one another's; those
// at random are at random together.
func (p *publishing) pace(ctx context.Context, begin func(request)) {
	rnd := p.run.random()
	apart := float64(p.Batch) / p.Rate * float64(time.Second) // of all
	gap := apart * float64(p.run.of)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	begun, at := time.Now(), (float64(p.run.number)+rnd.Float64())*apart
	for i := p.run.number; i < p.run.scenario.requests(p.Publisher); i += p.run.of {
		due := begun.Add(time.Duration(at))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
				p.run.headroom.late.timed(1, time.Since(due))
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return
		}
		begin(request{i, due})
		if p.Random {
			at += rnd.ExpFloat64() * gap
		} else {
			at += gap
		}
	}
}

// worker sends one request after another.
type worker struct {
	*publishing
	rnd  *rand.Rand
	body []byte
	req  fasthttp.Request
	resp fasthttp.Response
}

func (w *worker) send(r request) {
	first := w.run.book.Number(w.index, r.i*w.Batch)
	w.body = w.body[:0]
	for n := first; n < first+w.Batch; n++ {
		w.run.book.Sent(n, r.due)
		w.body = append(w.run.marks.appendEvent(w.body, w.Publisher, n, w.run.book.Key(n)), '\n')
	}
	w.sent.Add(int64(w.Batch))
	_, org, _ := w.run.book.Of(first)
	for {
		wait, err := w.post(org)
		switch {
		case err != nil:
			w.run.fail(fmt.Errorf("publisher %s: %w", w.Name, err))
			return
		case wait == 0:
			for n := first; n < first+w.Batch; n++ {
				w.run.book.Acknowledged(n)
			}
			w.meter.timed(int64(w.Batch), time.Since(r.due))
			return
		}
		if pause(w.run.patience, wait) != nil {
			w.unanswered.Add(int64(w.Batch))
			return
		}
		w.retries.Add(1)
	}
}

// answerWithin is how long an answer may take.
const answerWithin = 30 * time.Second

// post sends the body once. again is how long to wait before it is sent again; 0:
// it was taken. An error says that it never will be.
func (w *worker) post(org int) (again time.Duration, err error) {
	w.req.SetRequestURI(w.run.URL + "/v1/events")
	w.req.Header.SetMethod(fasthttp.MethodPost)
	w.req.Header.SetContentType("application/json")
	if w.Batch > 1 {
		w.req.Header.SetContentType("application/x-ndjson")
	}
	w.req.Header.Set("Authorization", "Bearer "+w.run.Keys[org])
	w.req.SetBodyRaw(w.body)
	again = time.Duration(100+w.rnd.IntN(200)) * time.Millisecond
	if err := w.run.http.DoTimeout(&w.req, &w.resp, answerWithin); err != nil {
		w.run.note("a request to publish wasn't answered: " + cause(err).Error())
		return again, nil
	}
	switch status := w.resp.StatusCode(); status {
	case fasthttp.StatusAccepted:
		return 0, nil
	case fasthttp.StatusServiceUnavailable, fasthttp.StatusTooManyRequests, fasthttp.StatusBadGateway, fasthttp.StatusGatewayTimeout:
		w.run.note(fmt.Sprintf("a request to publish was answered with %d", status))
		if s, err := strconv.Atoi(string(w.resp.Header.Peek("Retry-After"))); err == nil {
			again += time.Duration(min(s, 5)) * time.Second
		}
		return again, nil
	default:
		return 0, fmt.Errorf("publishing was refused with %d: %s", status, w.resp.Body())
	}
}
