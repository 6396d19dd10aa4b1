package lane

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gauges are what the lanes of a process show when somebody looks. A lane says
// every few seconds how it stands; ages are reckoned when they are asked for, so
// that they grow although a lane says nothing any more. One that has no lane here
// isn't shown: that 16 are, over all processes, is worth an alert.
type gauges struct {
	mu    sync.Mutex
	lanes map[int32]*shown
}

// shown is what one lane shows, in one life.
type shown struct {
	unread atomic.Int64 // of the first tier: Unix nanoseconds of the oldest record read and not handed over; 0: none

	mu sync.Mutex
	standing
}

// standing is how a lane stood at a moment.
type standing struct {
	inflight, waiting, full, retries int
	replays                          int
	overdue                          time.Duration    // of the retry that is most
	untaken, unfinished              time.Time        // when the log took the oldest record of the first tier that the lane hasn't taken, or finished; zero: none
	held                             map[string]int64 // by org
	past                             int64            // of them, those whose org's quota is used up
}

func laneGauge(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_lane_"+name, help, []string{"lane"}, nil)
}

var (
	gaugeInflight = laneGauge("inflight", "Attempts under way.")
	gaugeLag      = laneGauge("lag", "Records of the first tier that wait for the lane to take them, as far as it has read.")
	gaugeLagFor   = laneGauge("lag_seconds", "Age of the oldest of them: what is ours to answer for, whatever receivers do.")
	gaugeOldest   = laneGauge("oldest_seconds", "Age of the oldest delivery whose first attempt hasn't ended and that isn't held.")
	gaugeHeld     = laneGauge("held", "Deliveries held.")
	gaugePast     = laneGauge("held_quota", "Of those held, those whose org has used up its plan's deliveries of the month.")
	gaugeFull     = laneGauge("window_full", "Tiers that aren't read on because their head is unfinished for too long.")
	gaugeRetries  = laneGauge("retries_due", "Retries that are due and wait for the lane, or for room.")
	gaugeReplays  = laneGauge("replays", "Replays that run, or wait for their endpoint.")
	gaugeOverdue  = laneGauge("retry_overdue_seconds", "How long the retry has been due that has waited longest for the lane.")

	gaugeHeldOrg  = prometheus.NewDesc("sluice_held", "Deliveries held for the ten orgs of this process that have the most.", []string{"org"}, nil)
	gaugeHeldOrgs = prometheus.NewDesc("sluice_held_orgs", "Orgs for which this process's lanes hold deliveries.", nil, nil)
)

// mostHeld bounds the orgs that are shown by name.
const mostHeld = 10

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{gaugeInflight, gaugeLag, gaugeLagFor, gaugeOldest, gaugeHeld, gaugePast, gaugeFull, gaugeRetries, gaugeOverdue, gaugeReplays, gaugeHeldOrg, gaugeHeldOrgs} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	g.mu.Lock()
	lanes := maps.Clone(g.lanes)
	g.mu.Unlock()
	orgs := make(map[string]int64)
	for number, s := range lanes {
		name := strconv.Itoa(int(number))
		set := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, name)
		}
		s.mu.Lock()
		st := s.standing
		s.mu.Unlock()
		var held int64
		for org, n := range st.held { // it is made anew each time, and not changed
			orgs[org] += n
			held += n
		}
		if unread := s.unread.Load(); st.untaken.IsZero() && unread > 0 {
			st.untaken = time.Unix(0, unread)
		}
		set(gaugeInflight, float64(st.inflight))
		set(gaugeLag, float64(st.waiting))
		set(gaugeLagFor, age(st.untaken))
		set(gaugeOldest, max(age(st.unfinished), age(st.untaken)))
		set(gaugeHeld, float64(held))
		set(gaugePast, float64(st.past))
		set(gaugeFull, float64(st.full))
		set(gaugeRetries, float64(st.retries))
		set(gaugeReplays, float64(st.replays))
		set(gaugeOverdue, st.overdue.Seconds())
	}
	most := slices.SortedFunc(maps.Keys(orgs), func(a, b string) int { return cmp.Or(cmp.Compare(orgs[b], orgs[a]), cmp.Compare(a, b)) })
	for _, org := range most[:min(len(most), mostHeld)] {
		ch <- prometheus.MustNewConstMetric(gaugeHeldOrg, prometheus.GaugeValue, float64(orgs[org]), org)
	}
	ch <- prometheus.MustNewConstMetric(gaugeHeldOrgs, prometheus.GaugeValue, float64(len(orgs)))
}

func age(since time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return max(0, time.Since(since).Seconds())
}

// begin gives a lane's life its place among what is shown, until end is called.
func (g *gauges) begin(number int32) (s *shown, end func()) {
	s = new(shown)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lanes == nil {
		g.lanes = make(map[int32]*shown)
	}
	g.lanes[number] = s
	return s, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.lanes[number] == s {
			delete(g.lanes, number)
		}
	}
}

// measureEvery is how often a lane says how it stands.
const measureEvery = 5 * time.Second

// measure says how the lane stands.
func (l *Lane) measure(now time.Time) {
	if now.Before(l.measured.Add(measureEvery)) {
		l.idle = false
		return
	}
	l.measured = now
	st := standing{inflight: l.inflight, replays: len(l.replays.running), held: make(map[string]int64)}
	for _, t := range l.targets {
		if t.held.count > 0 {
			st.held[t.ep.Org] += t.held.count
			if t.spent() {
				st.past += t.held.count
			}
		}
		st.retries += len(t.retries.jobs)
	}
	for _, s := range l.sources {
		if s.head < len(s.jobs) && s.window.full(s.jobs[s.head].offset) {
			st.full++
		}
		waits := s.jobs[s.head:]
		if s.delay == 0 {
			st.waiting = len(waits)
			if len(waits) > 0 {
				st.untaken = waits[0].logged
			}
			st.unfinished = s.oldest()
			continue
		}
		due := sort.Search(len(waits), func(i int) bool { return waits[i].delivery == nil || waits[i].delivery.Due.After(now) })
		st.retries += due
		if due > 0 {
			st.overdue = max(st.overdue, now.Sub(waits[0].delivery.Due))
		}
	}
	l.idle = l.inflight == 0 && l.queued == 0 && st.waiting == 0 && st.retries == 0
	l.shown.mu.Lock()
	l.shown.standing = st
	l.shown.mu.Unlock()
}

// taken is a record of a tier and when the log took it. A source has one for each
// second, so that it knows about when the log took what isn't finished.
type taken struct {
	offset int64
	logged time.Time
}

// marked notes the record that is taken next.
func (s *source) marked(j *job) {
	if n := len(s.marks); n == 0 || j.logged.Sub(s.marks[n-1].logged) >= time.Second {
		s.marks = append(s.marks, taken{j.offset, j.logged})
	}
}

// oldest gives when, about, the log took the oldest record that was taken and
// isn't finished; zero: there is none.
func (s *source) oldest() time.Time {
	i := sort.Search(len(s.marks), func(i int) bool { return s.marks[i].offset > s.window.next })
	if i > 0 { // those before the newest at or below it are done
		s.marks = slices.Delete(s.marks, 0, i-1)
	}
	if s.window.next >= s.read || len(s.marks) == 0 {
		return time.Time{}
	}
	return s.marks[0].logged
}
