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
	mu      sync.Mutex
	kept    []*page // in the order of their places
	reading []*page // those that are being read, or wait for that, in the same order
	reach   int64   // places that a page has, by the one read last; 0: nothing was read
	weight  int
	uses    int64
	life    int         // how often all was forgotten
	idle    *time.Timer // nil: nothing is kept
	before  int64       // uses when idle was last looked at
}

// page holds every event of [from, next).
type page struct {
	from, next int64
	events     []*event.Event
	weight     int
	used       int64

	until int64         // it ends there at the latest: another begins
	life  int           // of the pages, when it began to be read
	done  chan struct{} // closed when it was read, or couldn't be
}

// find gives the page that from lies in, if it is kept.
func (ps *pages) find(from int64) *page {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.keptAt(from)
}

func (ps *pages) keptAt(from int64) *page {
	at, exact := slices.BinarySearchFunc(ps.kept, from, byPlace)
	if !exact {
		at--
	}
	if at < 0 || from >= ps.kept[at].next {
		return nil
	}
	p := ps.kept[at]
	ps.uses++
	p.used = ps.uses
	return p
}

// want is what pages say to who wants one.
type want int

const (
	kept   want = iota // it is there
	coming             // it is being read, or one that ought to reach so far
	yours              // it is for the caller to read, and to end
)

// want gives the page that from lies in. A caller that isn't patient is never told to
// wait for one.
func (ps *pages) want(from int64, patient bool) (*page, want) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.keptAt(from); p != nil {
		return p, kept
	}
	behind, _ := slices.BinarySearchFunc(ps.reading, from+1, byPlace)
	if patient && behind > 0 {
		if p := ps.reading[behind-1]; from < p.until && (ps.reach == 0 || from-p.from < ps.reach) {
			return p, coming
		}
	}
	p := &page{from: from, until: math.MaxInt64, life: ps.life, done: make(chan struct{})}
	if behind < len(ps.reading) {
		p.until = ps.reading[behind].from
	}
	if at, _ := slices.BinarySearchFunc(ps.kept, from, byPlace); at < len(ps.kept) {
		p.until = min(p.until, ps.kept[at].from)
	}
	ps.reading = slices.Insert(ps.reading, behind, p)
	return p, yours
}

// end tells those who wait for a page that there is no more to wait for.
func (ps *pages) end(p *page) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	at, _ := slices.BinarySearchFunc(ps.reading, p.from, byPlace)
	for ps.reading[at] != p { // who wouldn't wait begins there, too
		at++
	}
	ps.reading = slices.Delete(ps.reading, at, at+1)
	close(p.done)
}

func byPlace(p *page, place int64) int { return cmp.Compare(p.from, place) }

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
	ps.reach = max(1, (p.next-p.from)*readBytes/int64(max(1, p.weight)))
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
	// Whoever has waited for another's page once reads its own: that one may have failed,
	// or be shorter than pages are.
	p, is := r.pages.want(from, true)
	if is == coming {
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, from, ctx.Err()
		}
		p, is = r.pages.want(from, false)
	}
	if is == kept {
		return r.part(p, from, to)
	}
	defer r.pages.end(p)
	select {
	case r.scans <- struct{}{}:
		defer func() { <-r.scans }()
	case <-ctx.Done():
		return nil, from, ctx.Err()
	}
	if p := r.pages.find(from); p != nil { // another read it meanwhile
		return r.part(p, from, to)
	}
	var err error
	if p.events, p.next, err = r.read(ctx, from, p.until); err != nil {
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
