package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind says what is wrong; the package comment lists what must hold.
type Kind string

// The kinds of violations.
const (
	Lost        Kind = "lost"        // acknowledged, and never delivered to who wants it
	Unlogged    Kind = "unlogged"    // acknowledged, and not in the log
	Twice       Kind = "twice"       // at two places of the log
	Invented    Kind = "invented"    // never published
	Altered     Kind = "altered"     // not as it was published
	Unsigned    Kind = "unsigned"    // the signature is wrong
	Foreign     Kind = "foreign"     // seen by who may not
	Unwanted    Kind = "unwanted"    // seen by who didn't ask
	Repeated    Kind = "repeated"    // again, and not because it was in flight when something broke
	Misnumbered Kind = "misnumbered" // an attempt's number doesn't follow, or the delivery's id changed
	Early       Kind = "early"       // before its turn in the schedule
	Late        Kind = "late"        // long after it
	Stale       Kind = "stale"       // signed at another time than that at which it came
	Reordered   Kind = "reordered"   // begun after a later event of its key had ended
	Overtaken   Kind = "overtaken"   // sent to an ordered endpoint before the one before it was over
	Barred      Kind = "barred"      // sent to an endpoint that gets nothing
	Regressed   Kind = "regressed"   // shown to stand where it had been beyond
	Disagrees   Kind = "disagrees"   // shown, or counted, otherwise than it came
	Backwards   Kind = "backwards"   // a frame at or before the client's place
	Hole        Kind = "hole"        // missing, and not declared
	Miscounted  Kind = "miscounted"  // declared, and not missing
)

// Violation is one thing that must not be.
type Violation struct {
	Kind  Kind
	Event string        // id; of a hole: the first that is missing
	Whom  string        // the endpoint, or the name of the client
	At    time.Duration // since the ledger began; when it was seen, or should have been
	Text  string
}

func (v Violation) String() string {
	return fmt.Sprintf("%s: event %s, %s, at %v: %s", v.Kind, v.Event, v.Whom, v.At.Round(time.Millisecond), v.Text)
}

// Report is the outcome of a check.
type Report struct {
	Published    int // events, acknowledged or not
	Acknowledged int
	Owed         int // deliveries of what was acknowledged
	Delivered    int // of them
	Admitted     int // of them: not delivered, and the deployment says so
	NotKnown     int // of them: not delivered, and the deployment doesn't say whether it owes them
	Attempts     int // requests that came
	Failed       int // answered with another status than 2xx
	Repeats      int // deliveries that came again, because of faults or not
	Worst        int // of them: the most of one endpoint that one fault accounts for
	Frames       int
	Declared     int // events that streams were told they don't get
	Faults       int
	Repeating    int // faults that may repeat what is in flight

	Count      map[Kind]int // of all violations
	Violations []Violation  // the first of each kind, up to worth showing
}

// shown is how many violations of a kind are kept.
const shown = 20

// Add counts a violation, and keeps the first of each kind.
func (r *Report) Add(v Violation) {
	if r.Count == nil {
		r.Count = make(map[Kind]int)
	}
	r.Count[v.Kind]++
	if r.Count[v.Kind] <= shown {
		r.Violations = append(r.Violations, v)
	}
}

// Join adds what another process of the same run saw, at streams and endpoints of its
// own. Events and faults are those of both.
func (r *Report) Join(o *Report) {
	r.Owed, r.Delivered, r.Admitted, r.NotKnown = r.Owed+o.Owed, r.Delivered+o.Delivered, r.Admitted+o.Admitted, r.NotKnown+o.NotKnown
	r.Attempts, r.Failed, r.Repeats, r.Worst = r.Attempts+o.Attempts, r.Failed+o.Failed, r.Repeats+o.Repeats, max(r.Worst, o.Worst)
	r.Frames, r.Declared = r.Frames+o.Frames, r.Declared+o.Declared
	for kind, n := range o.Count {
		more := n
		for _, v := range o.Violations {
			if v.Kind == kind {
				r.Add(v)
				more--
			}
		}
		r.Count[kind] += more
	}
}

// OK says that nothing was violated, and that all that must be known for that is.
func (r *Report) OK() bool { return len(r.Count) == 0 && r.NotKnown == 0 }

// String is the figures, and what was violated, in lines.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "events      %d published, %d acknowledged\n", r.Published, r.Acknowledged)
	fmt.Fprintf(&b, "deliveries  %d owed, %d arrived, %d admitted as pending, held or dead, %d not known\n", r.Owed, r.Delivered, r.Admitted, r.NotKnown)
	fmt.Fprintf(&b, "attempts    %d came, %d were refused on purpose, %d were repeats, at most %d of one endpoint by one fault\n", r.Attempts, r.Failed, r.Repeats, r.Worst)
	fmt.Fprintf(&b, "streams     %d frames, %d events declared missing\n", r.Frames, r.Declared)
	fmt.Fprintf(&b, "faults      %d, of which %d may repeat what is in flight\n", r.Faults, r.Repeating)
	fmt.Fprintf(&b, "verdict     %s", Verdict(r.NotKnown, r.Count, r.Violations))
	return b.String()
}

// Verdict says in lines what was violated and how often, and names the first of each
// kind; or that all holds; or that nothing says so of some deliveries.
func Verdict[V Violation | string](notKnown int, count map[Kind]int, first []V) string {
	switch {
	case len(count) == 0 && notKnown > 0:
		return fmt.Sprintf("UNPROVEN: nothing else is wrong, and of %d deliveries it isn't known whether they are lost\n", notKnown)
	case len(count) == 0:
		return "everything holds: nothing lost, foreign, misordered, or missing unsaid\n"
	}
	var b strings.Builder
	b.WriteString("VIOLATED:")
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, " %d %s", count[kind], kind)
	}
	b.WriteString("\n")
	for _, v := range first {
		fmt.Fprintf(&b, "  %v\n", v)
	}
	return b.String()
}
