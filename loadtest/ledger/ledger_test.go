package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestClean: a history in which everything holds, with failures, faults, repeats,
// reconnects and declared gaps in it, is found clean.
func TestClean(t *testing.T) {
	for seed := range uint64(50) {
		h := invent(seed)
		if r := h.ledger().Check(); !r.OK() {
			t.Fatalf("seed %d:\n%s", seed, r)
		} else if seed == 0 {
			t.Logf("\n%s", r)
		}
	}
}

// TestEveryAnomalyIsFound: one anomaly is put into a clean history, anywhere. The
// check must name it, its event, and who saw it.
func TestEveryAnomalyIsFound(t *testing.T) {
	for name, spoil := range anomalies {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(40) {
				h := invent(seed)
				want := spoil(h, rand.New(rand.NewPCG(seed, 7)))
				l := h.ledger()
				r := l.Check()
				if !slices.ContainsFunc(r.Violations, func(v Violation) bool {
					return v.Kind == want.Kind && (want.Event == "" || v.Event == want.Event) && (want.Whom == "" || v.Whom == want.Whom)
				}) {
					t.Fatalf("seed %d: %s of %s at %s isn't found:\n%s\n%s", seed, want.Kind, want.Event, want.Whom, r, l.History(want.Event))
				}
			}
		})
	}
}

// anomalies put one wrong thing into a history, and say what it is.
var anomalies = map[string]func(h *history, rnd *rand.Rand) Violation{
	"delivery lost": func(h *history, rnd *rand.Rand) Violation {
		a := h.attempts[h.owed(rnd)]
		h.attempts = slices.DeleteFunc(h.attempts, func(b Attempt) bool { return b.Event == a.Event && b.Endpoint == a.Endpoint })
		return Violation{Kind: Lost, Event: a.Event, Whom: a.Endpoint}
	},
	"delivery never succeeds": func(h *history, rnd *rand.Rand) Violation {
		i := h.owed(rnd)
		for j := range h.attempts {
			if b := &h.attempts[j]; b.Event == h.attempts[i].Event && b.Endpoint == h.attempts[i].Endpoint {
				b.Status = 500
			}
		}
		return Violation{Kind: Lost, Event: h.attempts[i].Event, Whom: h.attempts[i].Endpoint}
	},
	"event not in the log": func(h *history, rnd *rand.Rand) Violation {
		i := rnd.IntN(acknowledged)
		h.unlogged = h.events[i].ID
		return Violation{Kind: Unlogged, Event: h.events[i].ID}
	},
	"event in the log twice": func(h *history, rnd *rand.Rand) Violation {
		i := rnd.IntN(len(h.events))
		h.twice = h.events[i].ID
		return Violation{Kind: Twice, Event: h.events[i].ID}
	},
	"event in the log that nobody sent": func(h *history, rnd *rand.Rand) Violation {
		h.stray = "stray"
		return Violation{Kind: Invented, Event: "stray"}
	},
	"delivery invented": func(h *history, rnd *rand.Rand) Violation {
		a := h.attempts[rnd.IntN(len(h.attempts))]
		a.Event, a.Data = "invented", 4711
		h.attempts = append(h.attempts, a)
		return Violation{Kind: Invented, Event: a.Event, Whom: a.Endpoint}
	},
	"delivery altered": func(h *history, rnd *rand.Rand) Violation {
		a := &h.attempts[rnd.IntN(len(h.attempts))]
		a.Data++
		return Violation{Kind: Altered, Event: a.Event, Whom: a.Endpoint}
	},
	"signature wrong": func(h *history, rnd *rand.Rand) Violation {
		a := &h.attempts[rnd.IntN(len(h.attempts))]
		a.Verified = false
		return Violation{Kind: Unsigned, Event: a.Event, Whom: a.Endpoint}
	},
	"delivered to another org": func(h *history, rnd *rand.Rand) Violation {
		a := h.attempts[rnd.IntN(len(h.attempts))]
		e := h.event(a.Event)
		e.Audience = []string{"org_nobody"}
		return Violation{Kind: Foreign, Event: a.Event, Whom: a.Endpoint}
	},
	"delivered in another environment": func(h *history, rnd *rand.Rand) Violation {
		a := h.attempts[rnd.IntN(len(h.attempts))]
		h.event(a.Event).Environment = "live"
		return Violation{Kind: Foreign, Event: a.Event, Whom: a.Endpoint}
	},
	"another org's data under an own id": func(h *history, rnd *rand.Rand) Violation {
		a := &h.attempts[rnd.IntN(len(h.attempts))]
		a.Canary = "org_other"
		return Violation{Kind: Foreign, Event: a.Event, Whom: a.Endpoint}
	},
	"another org's data on a stream": func(h *history, rnd *rand.Rand) Violation {
		s, i := h.someFrame(rnd, 0)
		s.told[i].canary = "org_other"
		return Violation{Kind: Foreign, Event: s.told[i].event, Whom: s.client.Name}
	},
	"stream of another org": func(h *history, rnd *rand.Rand) Violation {
		s, i := h.someFrame(rnd, 0)
		h.event(s.told[i].event).Audience = []string{"org_nobody"}
		return Violation{Kind: Foreign, Event: s.told[i].event, Whom: s.client.Name}
	},
	"not asked for": func(h *history, rnd *rand.Rand) Violation {
		for {
			a := h.attempts[rnd.IntN(len(h.attempts))]
			if e := h.event(a.Event); h.endpoint(a.Endpoint).Patterns[0] != "*" {
				e.Type = "settlement.done"
				return Violation{Kind: Unwanted, Event: a.Event, Whom: a.Endpoint}
			}
		}
	},
	"repeated though nothing broke": func(h *history, rnd *rand.Rand) Violation {
		for {
			a := h.attempts[rnd.IntN(len(h.attempts))]
			if a.Status != 200 || near(h.faults[0], a.Ended) {
				continue
			}
			a.Started, a.Ended = a.Ended.Add(time.Second), a.Ended.Add(2*time.Second)
			h.attempts = append(h.attempts, a)
			return Violation{Kind: Repeated, Event: a.Event, Whom: a.Endpoint}
		}
	},
	"more repeated than were in flight": func(h *history, rnd *rand.Rand) Violation {
		f := h.faults[0]
		ep := h.endpoints[rnd.IntN(len(h.endpoints))].ID
		n := 0
		for _, a := range slices.Clone(h.attempts) {
			if a.Endpoint == ep && a.Status == 200 && n <= inFlight {
				for range inFlight { // of few events many times over
					a.Started, a.Ended = f.From.Add(time.Second), f.From.Add(2*time.Second)
					h.attempts = append(h.attempts, a)
					n++
				}
			}
		}
		return Violation{Kind: Repeated, Whom: ep}
	},
	"repeated long after it had ended, when something broke": func(h *history, rnd *rand.Rand) Violation {
		for {
			a := h.attempts[rnd.IntN(len(h.attempts))]
			if a.Status != 200 || near(h.faults[0], a.Ended) || a.Ended.After(h.faults[0].From) {
				continue
			}
			a.Started, a.Ended = h.faults[0].From.Add(time.Second), h.faults[0].From.Add(2*time.Second)
			h.attempts = append(h.attempts, a)
			return Violation{Kind: Repeated, Event: a.Event, Whom: a.Endpoint}
		}
	},
	"repeated though it began when the fault was over": func(h *history, rnd *rand.Rand) Violation {
		for {
			a := h.attempts[rnd.IntN(len(h.attempts))]
			if over := a.Started.Sub(h.faults[0].Until); a.Status != 200 || over < 3*time.Second || over > 10*time.Second ||
				!a.Ended.Before(h.faults[0].Until.Add(13*time.Second)) || h.times(a) > 1 {
				continue
			}
			a.Started, a.Ended = a.Ended.Add(time.Second), a.Ended.Add(2*time.Second)
			h.attempts = append(h.attempts, a)
			return Violation{Kind: Repeated, Event: a.Event, Whom: a.Endpoint}
		}
	},
	"attempts that don't follow": func(h *history, rnd *rand.Rand) Violation {
		a := h.second(rnd)
		a.Number = 4
		return Violation{Kind: Misnumbered, Event: a.Event, Whom: a.Endpoint}
	},
	"too many attempts": func(h *history, rnd *rand.Rand) Violation {
		a := h.second(rnd)
		a.Number = 6
		return Violation{Kind: Misnumbered, Event: a.Event, Whom: a.Endpoint}
	},
	"another delivery id for a retry": func(h *history, rnd *rand.Rand) Violation {
		a := h.second(rnd)
		a.Delivery += "x"
		return Violation{Kind: Misnumbered, Event: a.Event, Whom: a.Endpoint}
	},
	"retry too early": func(h *history, rnd *rand.Rand) Violation {
		a := h.second(rnd)
		a.Started = a.Started.Add(-time.Second)
		return Violation{Kind: Early, Event: a.Event, Whom: a.Endpoint}
	},
	"retry a little too early": func(h *history, rnd *rand.Rand) Violation {
		a := h.second(rnd)
		first := h.attempts[slices.IndexFunc(h.attempts, func(b Attempt) bool { return b.Event == a.Event && b.Endpoint == a.Endpoint })]
		a.Started = first.Ended.Add(h.endpoint(a.Endpoint).Schedule[0] - 2*time.Millisecond)
		return Violation{Kind: Early, Event: a.Event, Whom: a.Endpoint}
	},
	"retry too late": func(h *history, rnd *rand.Rand) Violation {
		a := h.second(rnd)
		a.Started, a.Ended = a.Started.Add(time.Hour), a.Ended.Add(time.Hour)
		return Violation{Kind: Late, Event: a.Event, Whom: a.Endpoint}
	},
	"first attempts out of order": func(h *history, rnd *rand.Rand) Violation {
		for {
			i := rnd.IntN(len(h.attempts))
			a := &h.attempts[i]
			if a.Number != 1 || a.Status != 200 || near(h.faults[0], a.Ended) {
				continue
			}
			// Far behind all others of its key, and no fault is near.
			later := h.began.Add(24 * time.Hour)
			last := !slices.ContainsFunc(h.attempts, func(b Attempt) bool {
				return b.Endpoint == a.Endpoint && b.Number == 1 && h.event(b.Event).Key == h.event(a.Event).Key && h.offset(b.Event) > h.offset(a.Event)
			})
			if last || slices.ContainsFunc(h.attempts[i+1:], func(b Attempt) bool { return b.Endpoint == a.Endpoint && b.Event == a.Event }) {
				continue
			}
			a.Started, a.Ended = later, later.Add(time.Second)
			return Violation{Kind: Reordered, Event: a.Event, Whom: a.Endpoint}
		}
	},
	"stream goes back": func(h *history, rnd *rand.Rand) Violation {
		s, i := h.someFrame(rnd, 1)
		s.told = slices.Insert(s.told, i+1, s.told[i])
		return Violation{Kind: Backwards, Event: s.told[i].event, Whom: s.client.Name}
	},
	"stream swaps two": func(h *history, rnd *rand.Rand) Violation {
		for {
			s, i := h.someFrame(rnd, 0)
			if i+1 < len(s.told) && s.told[i+1].kind == frame {
				s.told[i], s.told[i+1] = s.told[i+1], s.told[i]
				return Violation{Kind: Backwards, Event: s.told[i+1].event, Whom: s.client.Name}
			}
		}
	},
	"stream leaves one out": func(h *history, rnd *rand.Rand) Violation {
		s, i := h.someFrame(rnd, 0)
		for s.told[i+1].kind != frame {
			s, i = h.someFrame(rnd, 0)
		}
		id := s.told[i].event
		s.told = slices.Delete(s.told, i, i+1)
		if h.declaredBefore(s, i) {
			id = "" // the hole begins with what was declared
		}
		return Violation{Kind: Hole, Event: id, Whom: s.client.Name}
	},
	"stream ends before the end": func(h *history, rnd *rand.Rand) Violation {
		s, i := h.someFrame(rnd, 1)
		s.told = s.told[:i]
		return Violation{Kind: Hole, Whom: s.client.Name}
	},
	"gap declared that there isn't": func(h *history, rnd *rand.Rand) Violation {
		s, i := h.someFrame(rnd, 0)
		s.told = slices.Insert(s.told, i, told{kind: gap, count: 1})
		return Violation{Kind: Miscounted, Whom: s.client.Name}
	},
	"gap declared too small": func(h *history, rnd *rand.Rand) Violation {
		for {
			s := h.streams[rnd.IntN(len(h.streams))]
			for i := range s.told[:len(s.told)-1] {
				if s.told[i].kind != gap || s.told[i+1].kind == resumed {
					continue
				}
				s.told[i].count--
				return Violation{Kind: Hole, Whom: s.client.Name}
			}
		}
	},
	"resumed behind what was seen": func(h *history, rnd *rand.Rand) Violation {
		s, i := h.someFrame(rnd, 1)
		s.told = slices.Insert(s.told, i+1, told{kind: resumed, offset: s.told[i].offset})
		return Violation{Kind: Backwards, Whom: s.client.Name}
	},
}

const (
	inFlight     = 32
	acknowledged = 395 // of 400 events
)

// history is a run that was thought up.
type history struct {
	began     time.Time
	events    []*Event // the offset of each is three times its place, and one
	endpoints []Endpoint
	attempts  []Attempt
	streams   []*story
	faults    []Fault

	unlogged, twice, stray string
}

type story struct {
	client Client
	told   []told
}

type told struct {
	kind   itemKind
	event  string
	offset int64
	count  int
	data   uint64
	canary string
}

// invent thinks a clean history up: three orgs, each with two endpoints and two
// clients, and a fault in the middle.
func invent(seed uint64) *history {
	rnd := rand.New(rand.NewPCG(seed, 1))
	h := &history{began: time.Now()}
	orgs := []string{"org_a", "org_b", "org_c"}
	for _, org := range orgs {
		for i, patterns := range [][]string{{"*"}, {"rfq.*", "quote.received"}} {
			h.endpoints = append(h.endpoints, Endpoint{ID: fmt.Sprintf("wh_%s%d", org, i), Org: org, Environment: "sandbox", Patterns: patterns, Since: h.began,
				Schedule: []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour}, InFlight: inFlight, Late: 10 * time.Second})
			h.streams = append(h.streams, &story{client: Client{Name: fmt.Sprintf("client_%s%d", org, i), Org: org, Environment: "sandbox", Patterns: patterns}})
		}
	}
	for i := range 400 {
		e := &Event{ID: fmt.Sprintf("evt_%d", i), Org: orgs[rnd.IntN(3)], Environment: "sandbox", Key: fmt.Sprint("key", rnd.IntN(5)),
			Type: []string{"rfq.created", "quote.received", "settlement.done"}[rnd.IntN(3)], Data: uint64(1000 + i), Sent: h.began.Add(time.Duration(i) * 50 * time.Millisecond)}
		e.Audience = [][]string{{e.Org}, {e.Org, orgs[rnd.IntN(3)]}, {Everybody}}[rnd.IntN(3)]
		if i < acknowledged { // the last were never answered; they are in the log all the same
			e.Acknowledged = e.Sent.Add(10 * time.Millisecond)
		}
		h.events = append(h.events, e)
	}
	kill := h.began.Add(10 * time.Second)
	h.faults = []Fault{{What: "kill -9", Whom: "dispatcher", From: kill, Until: kill.Add(2 * time.Second), Repeats: true}}
	for _, ep := range h.endpoints {
		h.deliver(ep, rnd)
	}
	for _, s := range h.streams {
		h.stream(s, rnd)
	}
	return h
}

func (h *history) deliver(ep Endpoint, rnd *rand.Rand) {
	repeats := 0
	for _, e := range h.events {
		if !e.sees(ep.Org, ep.Environment) || !(&check{wants: map[string]bool{}}).want(ep.Patterns, e.Type) {
			continue
		}
		a := Attempt{Event: e.ID, Endpoint: ep.ID, Delivery: e.ID + ep.ID, Number: 1, Data: e.Data, Canary: e.Org, Verified: true, Status: 200}
		a.Started = e.Sent.Add(time.Duration(20+rnd.IntN(200)) * time.Millisecond)
		a.Ended = a.Started.Add(time.Duration(rnd.IntN(50)) * time.Millisecond)
		if rnd.IntN(8) == 0 {
			a.Status = 500
		}
		h.attempts = append(h.attempts, a)
		if near := a.Ended.Sub(h.faults[0].From); near > -time.Second && near < time.Second && repeats < inFlight {
			repeats++
			again := a
			again.Started, again.Ended = a.Started.Add(5*time.Second), a.Ended.Add(5*time.Second)
			h.attempts = append(h.attempts, again)
			a = again
		}
		for delay := range slices.Values(ep.Schedule) {
			if a.Status == 200 {
				break
			}
			a.Number++
			a.Started = a.Ended.Add(delay + time.Duration(rnd.IntN(500))*time.Millisecond)
			a.Ended, a.Status = a.Started.Add(10*time.Millisecond), 200
			h.attempts = append(h.attempts, a)
		}
	}
}

func (h *history) stream(s *story, rnd *rand.Rand) {
	s.told = append(s.told, told{kind: begun, offset: 1})
	missing, next := 0, int64(1)
	for i, e := range h.events {
		if !e.sees(s.client.Org, s.client.Environment) || !(&check{wants: map[string]bool{}}).want(s.client.Patterns, e.Type) {
			continue
		}
		if rnd.IntN(30) == 0 && i < acknowledged-15 {
			missing++
			continue
		}
		switch {
		case missing > 0:
			s.told = append(s.told, told{kind: gap, count: missing})
		case rnd.IntN(30) == 0:
			s.told = append(s.told, told{kind: gap, count: 7}, told{kind: resumed, offset: next}) // cut off, and all comes after all
		}
		missing, next = 0, h.offset(e.ID)+1
		s.told = append(s.told, told{kind: frame, event: e.ID, offset: next - 1, data: e.Data, canary: e.Org})
	}
}

func (h *history) ledger() *Ledger {
	l := New(Rules{Slack: time.Second, Settle: 15 * time.Second})
	for _, ep := range h.endpoints {
		l.Registered(ep)
	}
	for _, a := range h.attempts { // some come before they are known to be acknowledged
		l.Attempted(a)
	}
	for _, e := range h.events {
		l.Published(*e)
		if e.ID != h.unlogged {
			l.Logged(e.ID, h.offset(e.ID), e.Data)
		}
		if e.ID == h.twice {
			l.Logged(e.ID, h.offset(e.ID)+1, e.Data)
		}
	}
	if h.stray != "" {
		l.Logged(h.stray, 1<<20, 1)
	}
	l.LogRead()
	for _, s := range h.streams {
		stream := l.Stream(s.client, s.told[0].offset)
		for _, t := range s.told[1:] {
			switch t.kind {
			case frame:
				stream.Frame(t.event, t.offset, t.data, t.canary)
			case gap:
				stream.Gap(t.count, false)
			case resumed:
				stream.Resumed(t.offset)
			}
		}
	}
	for _, f := range h.faults {
		l.Broke(f)
	}
	return l
}

func (h *history) event(id string) *Event { return h.events[place(id)] }

func (h *history) offset(id string) int64 { return int64(3*place(id) + 1) }

func place(id string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(id, "evt_"))
	return n
}

func (h *history) endpoint(id string) Endpoint {
	return h.endpoints[slices.IndexFunc(h.endpoints, func(e Endpoint) bool { return e.ID == id })]
}

// owed finds an attempt of an event that was acknowledged.
func (h *history) owed(rnd *rand.Rand) int {
	for {
		if i := rnd.IntN(len(h.attempts)); place(h.attempts[i].Event) < acknowledged {
			return i
		}
	}
}

// times says how many attempts there are of the delivery.
func (h *history) times(a Attempt) (n int) {
	for _, b := range h.attempts {
		if b.Event == a.Event && b.Endpoint == a.Endpoint {
			n++
		}
	}
	return n
}

// second finds a second attempt that no repeat goes before.
func (h *history) second(rnd *rand.Rand) *Attempt {
	for {
		i := rnd.IntN(len(h.attempts))
		if a := &h.attempts[i]; a.Number == 2 && i > 1 && h.attempts[i-1].Event == a.Event && h.attempts[i-2].Event != a.Event && !near(h.faults[0], a.Started) {
			return a
		}
	}
}

// someFrame finds a frame, not among the first or last few of its stream.
func (h *history) someFrame(rnd *rand.Rand, after int) (*story, int) {
	for {
		s := h.streams[rnd.IntN(len(h.streams))]
		if i := 1 + after + rnd.IntN(len(s.told)-3-after); s.told[i].kind == frame {
			return s, i
		}
	}
}

func (h *history) declaredBefore(s *story, i int) bool { return s.told[i-1].kind == gap }

// near says whether a fault may be the cause of what happens then.
func near(f Fault, at time.Time) bool {
	return at.After(f.From.Add(-3*time.Second)) && at.Before(f.Until.Add(20*time.Second))
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"rfq.created", "rfq.created", true}, {"rfq.created", "rfq.createdx", false}, {"*", "a.b", true}, {"rfq.*", "rfq.created", true},
		{"rfq.*", "quote.rfq.x", false}, {"*.created", "rfq.created", true}, {"r*q.c*d", "rfq.created", true}, {"r*q.c*e", "rfq.created", false}, {"rfq*", "rfq", true},
	} {
		if have := matches(c.pattern, c.text); have != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.text, have)
		}
	}
}

// TestAdmitted: what the deployment says it owes still isn't lost.
func TestAdmitted(t *testing.T) {
	h := invent(1)
	want := anomalies["delivery lost"](h, rand.New(rand.NewPCG(1, 1)))
	l := h.ledger()
	l.Owed(want.Event, want.Whom, "dead")
	if r := l.Check(); !r.OK() || r.Admitted != 1 {
		t.Errorf("\n%s", r)
	}
}

// TestHistory: a violation's event is told from its publishing to its last attempt.
func TestHistory(t *testing.T) {
	h := invent(2)
	a := h.second(rand.New(rand.NewPCG(1, 1)))
	text := h.ledger().History(a.Event)
	for _, part := range []string{"sends", "acknowledged", "attempt 1 with 500", "attempt 2 with 200", "sees it at offset"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q isn't in\n%s", part, text)
		}
	}
	t.Logf("\n%s", text)
}

// Events whose publisher was never told their names may be among those that are
// declared missing, and nothing else.
func TestUnnamedIsMissing(t *testing.T) {
	for declared, clean := range map[int]bool{0: true, 1: true, 2: false} {
		l := New(Rules{})
		for i, id := range []string{"a", "", "b"} {
			ev := Event{ID: id, Org: "o", Environment: "live", Audience: []string{"o"}, Type: "a.b", Data: uint64(i), Sent: time.Now()}
			if id != "" {
				ev.Acknowledged = ev.Sent
			}
			l.Published(ev)
		}
		l.Logged("whatever", 1, 1)
		s := l.Stream(Client{Name: "c", Org: "o", Environment: "live", Patterns: []string{"*"}}, 0)
		s.Frame("a", 0, 0, "o")
		if declared > 0 {
			s.Gap(declared, false)
		}
		s.Frame("b", 2, 2, "o")
		if r := l.Check(); r.OK() != clean {
			t.Errorf("%d declared:\n%s", declared, r)
		}
	}
}
