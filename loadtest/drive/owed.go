package drive

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// states are those in which a delivery may be without being lost. What is retried is
// asked for first: in order, others wait behind it.
var states = []string{"retrying", "pending", "held", "dead"}

// claim is what the deployment says of a delivery that it hasn't made.
type claim struct {
	EventID       string
	Status        string
	NextAttemptAt time.Time // of one that is retried
}

// admit asks what the deployment says it owes, and writes down what can be believed, or
// that it doesn't say. last: nobody waits any longer.
func (r *run) admit(ctx context.Context, last bool) {
	for _, s := range r.receivers {
		for _, e := range s.endpoints {
			if err := r.admitted(ctx, e, last); err != nil {
				e.book.Silent()
				r.note(fmt.Sprintf("what is owed to %s was asked in vain: %v", e.name, err))
			}
		}
	}
}

func (r *run) admitted(ctx context.Context, e *endpoint, last bool) error {
	var believed []int
	j := e.judge(last)
	for _, state := range states {
		for cursor, more := "", true; more; {
			var page struct {
				Data       []claim
				NextCursor *string
			}
			if err := r.Call(ctx, e.org, http.MethodGet, webhooksPath+"/"+e.id+"/deliveries?limit=100&status="+state+"&cursor="+cursor, nil, &page); err != nil {
				return err
			}
			for _, c := range page.Data {
				if number := r.marks.number(c.EventID); number >= 0 && j.believes(c, e.book.Seen(number)) {
					believed = append(believed, number)
				}
			}
			more = page.NextCursor != nil && strings.TrimSpace(*page.NextCursor) != ""
			if more {
				cursor = *page.NextCursor
			}
		}
	}
	e.book.Owes(believed)
	return nil
}

// idle is how long nothing may come to an endpoint that takes everything before what
// is said to be under way to it isn't.
const idle = 10 * time.Second

// judge holds what is said of an endpoint's deliveries against what came to it. To
// one that refuses, anything may be on hold; to one that takes everything, what could
// be sent comes, sooner or later: it is waited for, and what hasn't come though
// nothing else did for long is lost, whatever is said of it.
type judge struct {
	now     time.Time
	refuses bool // its last request
	ordered bool
	idle    bool // nothing came for long
	last    bool // nobody waits any longer
	retried bool // something is, that others may wait behind
}

func (e *endpoint) judge(last bool) *judge {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	rests := e.rests
	if calm := e.of.run.calm; calm.After(rests) {
		rests = calm
	}
	return &judge{now: now, refuses: e.refused, ordered: e.of.Ordered, last: last,
		idle: e.underWay == 0 && now.Sub(rests) >= idle && e.of.run.wanted.Err() == nil} // nobody has waited long enough to say
}

// believes says whether a delivery isn't lost. seen: an attempt of it came.
func (j *judge) believes(c claim, seen bool) bool {
	switch {
	case c.Status == "dead":
		return seen
	case c.Status == "retrying" && c.NextAttemptAt.Add(idle).After(j.now):
		j.retried = true
		return true
	case j.refuses, j.ordered && j.retried:
		return true
	}
	return j.last && !j.idle
}
