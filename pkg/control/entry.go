package control

import (
	"fmt"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// entry is an endpoint as the state keeps it. There may be a hundred thousand, and
// of most nothing is asked for days: what an event asks is at hand, what many have
// in common is kept once, and the rest is packed as it is in a snapshot.
//
//	entry ─┬─► home: org, environment
//	       ├─► group: dialect, patterns, filter
//	       └─► own: status … URL … sealed secret
type entry struct {
	created int64 // offset of the command that made it: the order of lists
	from    int64 // endpoint.Endpoint.From
	home    *home
	group   *group
	own     string // as appendOwn has it
}

// wants reports whether the endpoint is owed the event, which is of its environment.
func (e *entry) wants(ev *event.Event, v *verdicts) bool {
	return ev.Offset >= e.from && ev.Audience.Includes(e.home.org) && e.group.patterns.Match(ev.Type) && v.match(e.group.filter)
}

func (e *entry) id() string {
	var ep endpoint.Endpoint
	r := reader{rest: e.own}
	r.plain(&ep)
	return ep.ID
}

func (e *entry) sealed() sealed {
	var ep endpoint.Endpoint
	sealed, _ := e.unpack(&ep)
	return sealed
}

// unpack gives all of the endpoint but what is sealed. ok is false when own isn't
// what appendOwn writes.
func (e *entry) unpack(ep *endpoint.Endpoint) (sealed sealed, ok bool) {
	ep.Org, ep.Environment = e.home.org, e.home.env
	ep.Dialect, ep.Patterns = e.group.dialect, e.group.patterns
	r := reader{rest: e.own}
	r.own(ep, &sealed)
	return sealed, r.done()
}

// endpoint gives the endpoint as everybody else knows it, anew each time.
func (e *entry) endpoint(sealer *Sealer) *endpoint.Endpoint {
	ep := new(endpoint.Endpoint)
	if err := e.open(ep, sealer); err != nil {
		// It was opened with the same keys before it came into the state.
		panic(fmt.Sprintf("control: endpoint %s: %v", ep.ID, err))
	}
	return ep
}

func (e *entry) open(ep *endpoint.Endpoint, sealer *Sealer) (err error) {
	sealed, ok := e.unpack(ep)
	if !ok {
		return errDamaged
	}
	if ep.Secret, err = sealer.Open([]byte(sealed.secret), ep.Org, ep.ID, sealed.version); err != nil {
		return err
	}
	for _, p := range sealed.previous {
		secret, err := sealer.Open([]byte(p.secret), ep.Org, ep.ID, p.version)
		if err != nil {
			return err
		}
		ep.Previous = append(ep.Previous, endpoint.Retired{Secret: secret, Until: p.until})
	}
	headers, err := sealer.openHeaders([]byte(sealed.headers), ep.Org, ep.ID)
	if headers != nil {
		ep.Options.Headers = *headers
	}
	return err
}

// pack makes the entry of an endpoint.
func (s *state) pack(ep *endpoint.Endpoint, created int64, sealed *sealed) *entry {
	e := &entry{created: created, from: ep.From, home: s.home(ep.Org, ep.Environment)}
	e.group = s.wanted[ep.Environment].of(ep.Dialect, ep.Patterns, ep.Options.Filter)
	e.own = string(appendOwn(s.buf, ep, sealed))
	return e
}
