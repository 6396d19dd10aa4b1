package notice

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"sluice/pkg/event"
)

// about is what a notice says.
type about string

const (
	disabled about = "disabled"
	failing  about = "failing"
	missed   about = "missed"
)

// item is one notice: what happened to one endpoint.
type item struct {
	about    about
	endpoint string
	org      string
	env      event.Environment
	url      string
	reason   string
	at       time.Time // disabled: when; failing: since when
	times    int       // disabled: how often since a mail said so
	epoch    uint64    // failing: of the endpoint
	count    int64     // missed: all since it was enabled last, told or not
	more     int64     // missed: of them, those that aren't told

	noticed time.Time // when it came up
	ready   time.Time // no mail goes out for it before
}

type itemKey struct {
	about    about
	endpoint string
}

// letter is what an org is owed. It holds one item of each kind for an endpoint,
// so it is bounded by the endpoints that an org may have.
type letter struct {
	org   string
	items map[itemKey]item
	tries int
	retry time.Time // after a failed attempt: not before
}

// add puts an item in. A newer one stands in the place of the one before, and has
// waited as long.
func (l *letter) add(it item) {
	key := itemKey{it.about, it.endpoint}
	if before, ok := l.items[key]; ok {
		it.noticed = before.noticed
		if it.times += before.times; before.at.After(it.at) {
			it.at, it.reason = before.at, before.reason
		}
		if before.ready.Before(it.ready) {
			it.ready = before.ready
		}
	}
	l.items[key] = it
}

// due gives the time at which a mail may go out.
func (l *letter) due(lastMail time.Time) time.Time {
	var at time.Time
	for _, it := range l.items {
		if at.IsZero() || it.ready.Before(at) {
			at = it.ready
		}
	}
	for _, t := range []time.Time{lastMail.Add(pause), l.retry} {
		if t.After(at) {
			at = t
		}
	}
	return at
}

// list gives the items in the order in which a mail has them.
func (l *letter) list() []item {
	order := []about{disabled, missed, failing}
	return slices.SortedFunc(maps.Values(l.items), func(a, b item) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.about), slices.Index(order, b.about)),
			a.at.Compare(b.at), cmp.Compare(a.endpoint, b.endpoint))
	})
}

// again is how long a mail that wasn't taken waits.
func again(tries int) time.Duration {
	return min(time.Minute<<min(tries-1, 10), time.Hour)
}
