package stream

// room indexes the subscribed connections of one environment in one shard. An
// event for everybody asks each different filter once, an event for some orgs
// asks the filters of their connections; neither runs a glob for a type that its
// filter has seen.
type room struct {
	next    int64  // offset of the event to come
	turn    uint64 // counts events: a filter remembers by it, and holds none, whose batch would stay
	filters map[string]*filter
	list    []*filter
	orgs    map[string][]*conn
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
		f = &filter{key: key, pairs: pairs, at: len(r.list)}
		r.filters[key] = f
		r.list = append(r.list, f)
	}
	c.filter = f
	c.inFilter = len(f.conns)
	f.conns = append(f.conns, c)
	c.inOrg = len(r.orgs[c.org])
	r.orgs[c.org] = append(r.orgs[c.org], c)
}

// remove takes the connection out.
func (r *room) remove(c *conn) {
	f := c.filter
	if f == nil {
		return
	}
	c.filter, c.pairs = nil, nil

	last := len(f.conns) - 1
	f.conns[c.inFilter] = f.conns[last]
	f.conns[c.inFilter].inFilter = c.inFilter
	f.conns[last] = nil
	f.conns = f.conns[:last]
	if last == 0 {
		delete(r.filters, f.key)
		end := len(r.list) - 1
		r.list[f.at] = r.list[end]
		r.list[f.at].at = f.at
		r.list[end] = nil
		r.list = r.list[:end]
	}

	org := r.orgs[c.org]
	last = len(org) - 1
	org[c.inOrg] = org[last]
	org[c.inOrg].inOrg = c.inOrg
	org[last] = nil
	if last == 0 {
		delete(r.orgs, c.org)
	} else {
		r.orgs[c.org] = org[:last]
	}
}
