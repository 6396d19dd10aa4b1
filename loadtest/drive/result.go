package drive

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"sluice/loadtest/ledger"
)

// Result is what a run saw. Times are in milliseconds, rates in units a second.
type Result struct {
	Run         string    `json:"run"` // its name, in types and ids of its events
	Name        string    `json:"name"`
	Scenario    *Scenario `json:"scenario"`
	URL         string    `json:"url"`
	Orgs        int       `json:"orgs"`
	Seed        uint64    `json:"seed"`
	Machine     string    `json:"machine"` // of the client
	Began       time.Time `json:"began"`
	Published   float64   `json:"publishedForSeconds"`
	Interrupted bool      `json:"interrupted"`

	Publishers []PublisherResult `json:"publishers"`
	Streams    []StreamsResult   `json:"streams"`
	Receivers  []ReceiversResult `json:"receivers"`
	Servers    []Server          `json:"servers,omitempty"` // none: none was looked at
	Client     Client            `json:"client"`
	Clients    []Client          `json:"clients,omitempty"` // each process that made the load, where several did; Client is all of them
	Faults     []FaultResult     `json:"faults"`            // that the run made, and stalls that it found
	Verdict    Verdict           `json:"verdict"`
	Notes      map[string]int    `json:"notes"` // what happened beside, and how often
	Seconds    []Second          `json:"seconds"`
}

// PublisherResult is what one publisher saw. Times are from when a request was due
// until it was acknowledged.
type PublisherResult struct {
	Name         string    `json:"name"`
	Wanted       float64   `json:"wantedRate"`
	Rate         float64   `json:"rate"` // of what was acknowledged
	Due          int       `json:"due"`  // events, had all been sent
	Sent         int64     `json:"sent"`
	Acknowledged int64     `json:"acknowledged"`
	Retries      int64     `json:"retries"`
	Unanswered   int64     `json:"unanswered"`
	Times        Quantiles `json:"ms"`
}

// StreamsResult is what the streams of one kind saw. Times are of steady clients,
// from when an event was due until it came.
type StreamsResult struct {
	Name        string         `json:"name"`
	Kind        string         `json:"kind"`
	Connections int            `json:"connections"`
	Connects    int64          `json:"connects"`
	Events      int64          `json:"events"`
	Rate        float64        `json:"rate"`
	Endings     map[string]int `json:"endings"` // of connections that no client meant to end
	Times       Quantiles      `json:"ms"`
}

// ReceiversResult is what the endpoints of one kind saw. Times are from when an event
// was due until its first attempt came.
type ReceiversResult struct {
	Name      string    `json:"name"`
	Endpoints int       `json:"endpoints"`
	Requests  int64     `json:"requests"`
	Rate      float64   `json:"rate"`
	Refused   int       `json:"refused"` // on purpose
	Repeats   int       `json:"repeats"`
	Owed      int       `json:"stillOwed"` // not delivered, and said to be owed
	Times     Quantiles `json:"ms"`
}

// FaultResult is something that was broken, in seconds since publishing began.
type FaultResult struct {
	What  string  `json:"what"` // kill -9, SIGTERM, SIGSTOP, or stall: nobody had broken anything
	Whom  string  `json:"whom"`
	From  float64 `json:"from"`
	Until float64 `json:"until"` // when it was ready again
}

// FaultSum is how often something happened to a process, and how many seconds it took
// until that was ready again.
type FaultSum struct {
	What, Whom      string
	Times           int
	Median, Longest float64
}

// FaultSums sums the faults up, by what and whom.
func (r *Result) FaultSums() (sums []FaultSum) {
	type of struct{ what, whom string }
	took := make(map[of][]float64)
	for _, f := range r.Faults {
		took[of{f.What, f.Whom}] = append(took[of{f.What, f.Whom}], f.Until-f.From)
	}
	for f, t := range took {
		slices.Sort(t)
		sums = append(sums, FaultSum{f.what, f.whom, len(t), t[len(t)/2], t[len(t)-1]})
	}
	slices.SortFunc(sums, func(a, b FaultSum) int {
		return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Whom, b.Whom))
	})
	return sums
}

// Verdict is what must hold, and whether it does.
type Verdict struct {
	OK           bool                `json:"ok"`
	Sent         int                 `json:"sent"`
	Acknowledged int                 `json:"acknowledged"`
	Deliveries   int                 `json:"deliveries"` // that endpoints are owed
	Delivered    int                 `json:"delivered"`
	StillOwed    int                 `json:"stillOwed"`
	NotKnown     int                 `json:"notKnown"` // not delivered, and the deployment didn't say whether they are owed
	Repeats      int                 `json:"repeats"`
	Streamed     int                 `json:"streamed"`
	Declared     int                 `json:"declared"` // events that streams were told they don't get
	Count        map[ledger.Kind]int `json:"count"`
	Violations   []string            `json:"violations"` // the first of each kind
	Failures     []string            `json:"failures"`   // what processes did wrong when they were broken
}

func (v *Verdict) String() string {
	text := ledger.Verdict(v.NotKnown, v.Count, v.Violations)
	if v.NotKnown > 0 {
		text += fmt.Sprintf("  not known: of %d deliveries the deployment didn't say whether it owes them (noted above why): its processes with the role api "+
			"list deliveries where they have --data, a directory that is there, or --attempts-db\n", v.NotKnown)
	}
	for _, failure := range v.Failures {
		text += "  FAILED: " + failure + "\n"
	}
	return text
}

func (r *run) result(s *seen) *Result {
	w, published, report := s.seconds, s.published, s.report
	out := &Result{Run: r.marks.run, Name: r.Name, Scenario: r.scenario, URL: r.URL, Orgs: len(r.Keys), Seed: r.Seed,
		Machine: fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), runtime.Version()),
		Began:   w.began, Published: published.Seconds(), Interrupted: s.interrupted, Client: s.client, Seconds: w.seen, Notes: r.noted(),
		Verdict: Verdict{OK: report.OK(), Sent: report.Published, Acknowledged: report.Acknowledged, Deliveries: report.Owed, Delivered: report.Delivered,
			StillOwed: report.Admitted, NotKnown: report.NotKnown, Repeats: report.Repeats, Streamed: report.Frames, Declared: report.Declared, Count: report.Count},
	}
	for _, v := range report.Violations {
		out.Verdict.Violations = append(out.Verdict.Violations, v.String())
	}
	for _, of := range r.servers {
		out.Servers = append(out.Servers, of.Server)
	}
	for _, f := range r.faults {
		out.Faults = append(out.Faults, FaultResult{f.What, f.Whom, f.From.Sub(w.began).Seconds(), f.Until.Sub(w.began).Seconds()})
	}
	for _, err := range r.nemesis.Failed() {
		out.Verdict.OK = false
		out.Verdict.Failures = append(out.Verdict.Failures, err.Error())
	}
	for _, of := range r.publishers {
		n, q := of.meter.total()
		out.Publishers = append(out.Publishers, PublisherResult{Name: of.Name, Wanted: of.Rate, Rate: float64(n) / published.Seconds(), Due: r.scenario.requests(of.Publisher) * of.Batch,
			Sent: of.sent.Load(), Acknowledged: n, Retries: of.retries.Load(), Unanswered: of.unanswered.Load(), Times: q})
	}
	for _, of := range r.streams {
		n, q := of.meter.total()
		out.Streams = append(out.Streams, StreamsResult{Name: of.Name, Kind: of.Kind, Connections: of.Connections, Connects: of.connects.Load(),
			Events: n, Rate: float64(n) / published.Seconds(), Endings: of.reasons(), Times: q})
	}
	for _, of := range r.receivers {
		n, q := of.meter.total()
		rr := ReceiversResult{Name: of.Name, Endpoints: of.Endpoints, Requests: n, Rate: float64(n) / published.Seconds(), Times: q}
		for _, e := range of.endpoints {
			t := e.book.Tally()
			rr.Refused, rr.Repeats, rr.Owed = rr.Refused+t.Failed, rr.Repeats+t.Repeats, rr.Owed+t.Owed
		}
		out.Receivers = append(out.Receivers, rr)
	}
	return out
}

// join adds what another process saw. What meters have is there already.
func (r *Result) join(o *Result) {
	for i, p := range o.Publishers {
		to := &r.Publishers[i]
		to.Sent, to.Retries, to.Unanswered = to.Sent+p.Sent, to.Retries+p.Retries, to.Unanswered+p.Unanswered
	}
	for i, s := range o.Streams {
		r.Streams[i].Connects += s.Connects
		for why, n := range s.Endings {
			r.Streams[i].Endings[why] += n
		}
	}
	for i, e := range o.Receivers {
		to := &r.Receivers[i]
		to.Refused, to.Repeats, to.Owed = to.Refused+e.Refused, to.Repeats+e.Repeats, to.Owed+e.Owed
	}
	for text, n := range o.Notes {
		r.Notes[text] += n
	}
}

// reasons are how connections ended, and how often.
func (s *streams) reasons() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.endings)
}
