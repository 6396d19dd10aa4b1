package stream

import datafilter "sluice/pkg/filter"

// room indexes the subscribed connections of one environment in one shard. An
// event for everybody asks each different filter once, an event for some orgs
// asks the filters of their connections; neither runs a glob for a type that its
// filter has seen, nor looks at data twice for the same condition.
type room struct {
	next    int64  // offset of the event to come
	turn    uint64 // counts events: a filter remembers by it, and holds none, whose batch would stay
	filters map[string]*filter
	list    []*filter
	orgs    map[string][]*conn
	data    map[*datafilter.Filter]*condition // of all pairs of filters
}

func newRoom() *room {
	return &room{filters: make(map[string]*filter), orgs: make(map[string][]*conn), data: make(map[*datafilter.Filter]*condition)}
}

// deliver offers the event to every connection that is to have it.
func (r *room) deliver(e *entry) {
	r.turn++
	if e.ev.Audience.All {
		for _, f := range r.list {
			if f.match(r.turn, e.ev) {
				for _, c := range f.conns {
					c.offer(e)
				}
			}
		}
		return
	}
	for _, org := range e.ev.Audience.Orgs {
		for _, c := range r.orgs[org] {
			if c.filter.match(r.turn, e.ev) {
				c.offer(e)
			}
		}
	}
}

// place moves the connection to where its pairs belong.
func (r *room) place(c *conn, pairs []pair) {
	r.remove(c)
	c.pairs = pairs
	if len(pairs) == 0 {
		return
	}
	key := filterKey(pairs)
	f := r.filters[key]
	if f == nil {
		f = &filter{key: key, pairs: pairs, data: r.conditions(pairs), at: len(r.list)}
		r.filters[key] = f
		r.list = append(r.list, f)
	}
	c.filter = f
	c.inFilter = int32(len(f.conns))
	f.conns = append(f.conns, c)
	c.inOrg = int32(len(r.orgs[c.org]))
	r.orgs[c.org] = append(r.orgs[c.org], c)
}

// remove takes the connection out.
func (r *room) remove(c *conn) {
	f := c.filter
	if f == nil {
		return
	}
	c.filter, c.pairs = nil, nil

	last := int32(len(f.conns)) - 1
	f.conns[c.inFilter] = f.conns[last]
	f.conns[c.inFilter].inFilter = c.inFilter
	f.conns[last] = nil
	f.conns = f.conns[:last]
	if last == 0 {
		delete(r.filters, f.key)
		r.release(f.data)
		end := len(r.list) - 1
		r.list[f.at] = r.list[end]
		r.list[f.at].at = f.at
		r.list[end] = nil
		r.list = r.list[:end]
	}

	org := r.orgs[c.org]
	last = int32(len(org)) - 1
	org[c.inOrg] = org[last]
	org[c.inOrg].inOrg = c.inOrg
	org[last] = nil
	if last == 0 {
		delete(r.orgs, c.org)
	} else {
		r.orgs[c.org] = org[:last]
	}
}

// conditions gives those on data of each pair, until they are released.
func (r *room) conditions(pairs []pair) []*condition {
	all := make([]*condition, len(pairs))
	for i := range pairs {
		is := pairs[i].data
		if is == nil {
			continue
		}
		d := r.data[is]
		if d == nil {
			d = &condition{is: is}
			r.data[is] = d
		}
		d.uses++
		all[i] = d
	}
	return all
}

func (r *room) release(all []*condition) {
	for _, d := range all {
		if d == nil {
			continue
		}
		if d.uses--; d.uses == 0 {
			delete(r.data, d.is)
		}
	}
}
