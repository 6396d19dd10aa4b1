package replay

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"sluice/pkg/event"
)

// The bounds of pages.
const (
	readBytes = 256 << 10        // of the log, at a time: a page
	pagesKept = 16 << 20         // weight of all pages of a reader
	pagesFor  = 30 * time.Second // that nobody uses any page, until all are given up
)

// pages are the parts of the log that were read last, decoded once for all who read
// near one another: a crowd that resumes, and who reads on behind. They don't overlap,
// whatever the places from which they were read.
type pages struct {
	mu     sync.Mutex
	kept   []*page // in the order of their places
	weight int
	uses   int64
	life   int         // how often all was forgotten
	idle   *time.Timer // nil: nothing is kept
	before int64       // uses when idle was last looked at
}

// page holds every event of [from, next).
type page struct {
	from, next int64
	life       int // of the pages, when it began to be read
	events     []*event.Event
	weight     int
	used       int64
}

// find gives the page that from lies in. If there is none, to is where the next one
// begins.
func (ps *pages) find(from int64) (p *page, to int64) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	at, exact := slices.BinarySearchFunc(ps.kept, from, byPlace)
	switch {
	case exact:
		p = ps.kept[at]
	case at > 0 && from < ps.kept[at-1].next:
		p = ps.kept[at-1]
	case at < len(ps.kept):
		return nil, ps.kept[at].from
	default:
		return nil, math.MaxInt64
	}
	ps.uses++
	p.used = ps.uses
	return p, p.next
}

func byPlace(p *page, place int64) int { return cmp.Compare(p.from, place) }

// begin makes a page that is to be read.
func (ps *pages) begin(from int64) *page {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return &page{from: from, life: ps.life}
}

// forget gives all up, and what is being read.
func (ps *pages) forget() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.kept, ps.weight = nil, 0
	ps.life++
}

// keep adds a page, unless another reader was quicker, or it is of a log that was lost.
func (ps *pages) keep(p *page) {
	if p.next <= p.from {
		return
	}
	for _, ev := range p.events {
		p.weight += weight(ev)
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	at, exact := slices.BinarySearchFunc(ps.kept, p.from, byPlace)
	if p.life != ps.life || exact || at > 0 && p.from < ps.kept[at-1].next || at < len(ps.kept) && p.next > ps.kept[at].from {
		return
	}
	ps.uses++
	p.used = ps.uses
	ps.kept = slices.Insert(ps.kept, at, p)
	for ps.weight += p.weight; ps.weight > pagesKept && len(ps.kept) > 1; {
		ps.drop()
	}
	if ps.idle == nil {
		ps.before = ps.uses
		ps.idle = time.AfterFunc(pagesFor, ps.rest)
	}
}

// drop gives up the page that wasn't used for the longest time.
func (ps *pages) drop() {
	oldest := 0
	for i, p := range ps.kept {
		if p.used < ps.kept[oldest].used {
			oldest = i
		}
	}
	ps.weight -= ps.kept[oldest].weight
	ps.kept = slices.Delete(ps.kept, oldest, oldest+1)
}

// rest gives all up when nobody has used any since it last looked.
func (ps *pages) rest() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.uses != ps.before {
		ps.before = ps.uses
		ps.idle.Reset(pagesFor)
		return
	}
	ps.kept, ps.weight, ps.idle = nil, 0, nil
}

// part gives the events of [from, to) that are in the page, and the place behind
// them.
func (p *page) part(from, to int64) (events []*event.Event, next int64) {
	to = min(to, p.next)
	find := func(place int64) int {
		at, _ := slices.BinarySearchFunc(p.events, place, func(ev *event.Event, place int64) int { return cmp.Compare(ev.Offset, place) })
		return at
	}
	return p.events[find(from):find(to)], to
}

// Forget gives up what was read of the log. It is for who finds that the log isn't the
// one that was: brokers that lose their leader may lose with it what they had
// acknowledged, and give its places to other events.
func (r *Reader) Forget() { r.pages.forget() }

// page gives the events of [from, to) that are in the page of from, which it reads
// if nobody has; and the place behind them, from itself if the log ends there. The
// events are others' as well.
func (r *Reader) page(ctx context.Context, from, to int64) ([]*event.Event, int64, error) {
	if p, _ := r.pages.find(from); p != nil {
		return r.part(p, from, to)
	}
	select {
	case r.scans <- struct{}{}:
		defer func() { <-r.scans }()
	case <-ctx.Done():
		return nil, from, ctx.Err()
	}
	p, end := r.pages.find(from)
	if p != nil { // another read it meanwhile
		return r.part(p, from, to)
	}
	p = r.pages.begin(from)
	var err error
	if p.events, p.next, err = r.read(ctx, from, end); err != nil {
		return nil, from, err
	}
	r.pages.keep(p)
	r.wanted.WithLabelValues("log").Inc()
	events, next := p.part(from, to)
	return events, next, nil
}

func (r *Reader) part(p *page, from, to int64) ([]*event.Event, int64, error) {
	r.wanted.WithLabelValues("memory").Inc()
	events, next := p.part(from, to)
	return events, next, nil
}
