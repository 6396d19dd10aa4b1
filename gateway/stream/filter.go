package stream

import (
	"slices"
	"strings"

	"sluice/pkg/event"
	datafilter "sluice/pkg/filter"
)

// pair is what one subscribe adds: an event of any of the patterns, in any of
// the corridors, or in none, whose data meets the filter.
type pair struct {
	patterns  event.Patterns
	corridors []string           // sorted; nil: any
	data      *datafilter.Filter // nil: any

	live int64 // the offset from which it is matched as events come; lower by what waited just then
	from int64 // the offset from which all that matches was sent: by a replay up to live
}

// conditionWeight is how many patterns a condition on data counts as among those of an
// org: a pattern is asked once of each type, a condition of each event.
const conditionWeight = 10

// patternsOf counts the patterns of pairs, and what they weigh among those of their org.
func patternsOf(pairs []pair) (patterns, weight int) {
	for i := range pairs {
		patterns += len(pairs[i].patterns)
		if pairs[i].data != nil {
			weight += conditionWeight
		}
	}
	return patterns, weight + patterns
}

func (p *pair) inCorridor(corridor string) bool {
	if p.corridors == nil || corridor == "" {
		return true
	}
	_, found := slices.BinarySearch(p.corridors, corridor)
	return found
}

func (p *pair) match(ev *event.Event) bool {
	return p.patterns.Match(ev.Type) && p.meets(ev)
}

// meets asks all but the type, the dearest last.
func (p *pair) meets(ev *event.Event) bool {
	return p.inCorridor(ev.Corridor) && (p.data == nil || p.data.Match(ev))
}

// text writes a pair so that equal ones are equal.
func (p *pair) text() string {
	var b strings.Builder
	words := p.patterns.Strings()
	slices.Sort(words)
	for _, w := range slices.Compact(words) {
		b.WriteString(w)
		b.WriteByte(' ')
	}
	for _, c := range p.corridors { // any bytes: so with their length
		b.WriteByte('/')
		b.WriteString(lengthOf(c))
		b.WriteString(c)
	}
	if p.corridors == nil {
		b.WriteByte('*')
	}
	if p.data != nil {
		b.WriteByte('?')
		b.WriteString(p.data.Text()) // without a line end
	}
	b.WriteByte('\n')
	return b.String()
}

func lengthOf(s string) string {
	var digits []byte
	for n := len(s); n > 0; n /= 10 {
		digits = append(digits, byte('0'+n%10))
	}
	return string(append(digits, ':'))
}

// indexOf gives the place of the pair that wants the same; -1: there is none.
func indexOf(pairs []pair, p *pair) int {
	text := p.text()
	return slices.IndexFunc(pairs, func(q pair) bool { return q.text() == text })
}

// samePairs reports whether they are the very same: lists of pairs are never changed
// in place.
func samePairs(a, b []pair) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// filter is a set of pairs with the connections that have just these. Globs are
// run once per filter and event type, not per connection and event.
type filter struct {
	key      string
	pairs    []pair       // their live and from are of no meaning here
	data     []*condition // of each pair; nil: it has none
	verdicts map[string]mask
	conns    []*conn
	at       int // in the room's list

	asked uint64 // the turn of its room in which said was found
	said  bool
}

// mask says which pairs of a filter match a type.
type mask [2]uint64

const (
	maxPairs    = 128
	maxVerdicts = 1024
)

func filterKey(pairs []pair) string {
	texts := make([]string, len(pairs))
	for i := range pairs {
		texts[i] = pairs[i].text()
	}
	slices.Sort(texts)
	return strings.Join(texts, "")
}

// match reports whether any pair matches the event, which is its room's in that turn.
func (f *filter) match(turn uint64, ev *event.Event) bool {
	if f.asked != turn {
		f.asked, f.said = turn, f.decide(turn, ev)
	}
	return f.said
}

func (f *filter) decide(turn uint64, ev *event.Event) bool {
	m, known := f.verdicts[ev.Type]
	if !known {
		for i := range f.pairs {
			if f.pairs[i].patterns.Match(ev.Type) {
				m[i/64] |= 1 << (i % 64)
			}
		}
		if f.verdicts == nil || len(f.verdicts) >= maxVerdicts {
			f.verdicts = make(map[string]mask) // types are the publishers' to invent
		}
		f.verdicts[ev.Type] = m
	}
	if m == (mask{}) {
		return false
	}
	for i := range f.pairs {
		if m[i/64]&(1<<(i%64)) != 0 && f.pairs[i].inCorridor(ev.Corridor) && f.data[i].match(turn, ev) {
			return true
		}
	}
	return false
}

// condition is a condition on data, for all filters of a room that have the same.
type condition struct {
	is   *datafilter.Filter
	uses int // by pairs of filters

	asked uint64 // as a filter's
	said  bool
}

// match reports whether the event, which is its room's in that turn, meets the condition;
// where there is none, all do.
func (d *condition) match(turn uint64, ev *event.Event) bool {
	if d == nil {
		return true
	}
	if d.asked != turn {
		d.asked, d.said = turn, d.is.Match(ev)
	}
	return d.said
}
