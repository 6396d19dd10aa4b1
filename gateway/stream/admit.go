package stream

import "net/netip"

// full says why there is no room for a connection from that network; empty: there
// is. Of the room for those that aren't authenticated one network may hold as much
// as it leaves to all others: so who is alone, as a proxy is, has half of it, and
// nobody can take it all.
func (h *Hub) full(from netip.Prefix) (reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fullLocked(from)
}

func (h *Hub) fullLocked(from netip.Prefix) (reason string) {
	select {
	case <-h.ready:
	default:
		return "starting"
	}
	switch {
	case h.draining:
		return "draining"
	case h.unauth >= h.limits.Unauth:
		return "full"
	case h.networks[from] != nil && h.networks[from].connections >= h.limits.Unauth-h.unauth:
		return "address"
	}
	return ""
}

// admit makes a connection and counts it; nil: there is no room for it. What it
// counts dismiss takes back.
func (h *Hub) admit(n int, from netip.Prefix) *conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fullLocked(from) != "" {
		return nil
	}
	h.unauth++
	h.open.Add(1)
	h.number++
	c := newConn(h, h.shards[h.number%len(h.shards)], h.number, n)
	if c.network = h.networks[from]; c.network == nil {
		c.network = &network{prefix: from}
		h.networks[from] = c.network
	}
	c.network.connections++
	h.metrics.connections.WithLabelValues(stateUnauth).Inc()
	return c
}

// dismiss takes back what admit, enter, welcome and hold counted.
func (h *Hub) dismiss(c *conn) {
	h.mu.Lock()
	if o := c.entered; o == nil {
		h.known(c)
	} else {
		o.patterns -= int(c.patterns)
		if o.connections--; o.connections == 0 {
			delete(h.orgs, o.org)
		}
		h.metrics.connections.WithLabelValues(stateAuth).Dec()
	}
	h.mu.Unlock()
	h.open.Done()
}

// known counts a connection no longer to those that aren't authenticated; h.mu
// is held.
func (h *Hub) known(c *conn) {
	h.unauth--
	if c.network.connections--; c.network.connections == 0 {
		delete(h.networks, c.network.prefix)
	}
	c.network = nil
	h.metrics.connections.WithLabelValues(stateUnauth).Dec()
}

// network is what has come from somewhere and isn't authenticated.
type network struct {
	prefix      netip.Prefix
	connections int
}

// holding is what an org has of a hub.
type holding struct {
	org                   string
	connections, patterns int
}

// holdingOf gives it; h.mu is held.
func (h *Hub) holdingOf(org string) (has holding) {
	if o := h.orgs[org]; o != nil {
		has = *o
	}
	return has
}

// count counts the connection, with so many patterns, to an org; h.mu is held.
func (h *Hub) count(c *conn, org string, patterns int) {
	o := h.orgs[org]
	if o == nil {
		o = &holding{org: org}
		h.orgs[org] = o
	}
	o.connections++
	o.patterns += patterns
	c.entered, c.patterns = o, int32(patterns)
	h.metrics.connections.WithLabelValues(stateAuth).Inc()
}

// enter counts the connection to its org instead; false: the org has too many.
func (h *Hub) enter(c *conn, org string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.holdingOf(org).connections >= h.limits.PerOrg {
		return false
	}
	h.known(c)
	h.count(c, org, 0)
	return true
}

// hold counts the patterns that the connection has from now on; false: its org
// would have too many, and the connection has those it had.
func (h *Hub) hold(c *conn, patterns int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := c.entered
	more := patterns - int(c.patterns)
	if more > 0 && o.patterns+more > h.limits.OrgPatterns {
		h.metrics.refused.WithLabelValues("patterns").Inc()
		return false
	}
	o.patterns += more
	c.patterns = int32(patterns)
	return true
}
