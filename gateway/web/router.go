package web

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// router finds routes by path, segment by segment. A segment that is written out
// goes before a parameter. Paths are matched as they were sent: nothing is
// cleaned, so nothing can be cleaned differently elsewhere.
type router struct{ root node }

type node struct {
	static map[string]*node
	param  *node
	routes map[string]*Route // by method
	socket *Route            // of what asks for a WebSocket
	allow  string            // methods, for Allow
}

// match is where a path leads, with the values of its parameters in order.
type match struct {
	node   *node
	values []string
}

// add puts a route in its place.
func (r *router) add(route *Route) error {
	if !strings.HasPrefix(route.Path, "/") {
		return fmt.Errorf("add route %s %s: a path begins with /", route.Method, route.Path)
	}
	n := &r.root
	for seg := range strings.SplitSeq(route.Path[1:], "/") {
		if name, ok := strings.CutPrefix(seg, "{"); ok && strings.HasSuffix(name, "}") {
			if n.param == nil {
				n.param = &node{}
			}
			route.params = append(route.params, strings.TrimSuffix(name, "}"))
			n = n.param
			continue
		}
		if n.static == nil {
			n.static = make(map[string]*node)
		}
		if n.static[seg] == nil {
			n.static[seg] = &node{}
		}
		n = n.static[seg]
	}
	if n.routes == nil {
		n.routes = make(map[string]*Route)
	}
	switch {
	case route.Upgrade && n.socket != nil, !route.Upgrade && n.routes[route.Method] != nil:
		return fmt.Errorf("add route %s %s: there is one already", route.Method, route.Path)
	case route.Upgrade:
		n.socket = route
	default:
		n.routes[route.Method] = route
	}
	methods := []string{"OPTIONS"}
	for m := range n.routes {
		methods = append(methods, m)
	}
	if n.socket != nil {
		methods = append(methods, "GET")
	}
	if slices.Contains(methods, "GET") {
		methods = append(methods, "HEAD")
	}
	slices.Sort(methods)
	n.allow = strings.Join(slices.Compact(methods), ", ")
	return nil
}

// route gives the route of a request; nil: its method isn't served here.
func (n *node) route(method string, h *fasthttp.RequestHeader) *Route {
	if n.socket != nil && method == "GET" && (n.routes["GET"] == nil || bytes.EqualFold(h.Peek("Upgrade"), []byte("websocket"))) {
		return n.socket
	}
	return n.routes[method]
}

// find looks a path up; the node is nil when there is no such path. ok is false
// when the path makes no sense.
func (r *router) find(path []byte) (m match, ok bool) {
	if bytes.IndexByte(path, 0) >= 0 || bytes.Contains(path, []byte("%00")) {
		return match{}, false
	}
	m.node = r.root.find(path[1:], &m.values)
	return m, true
}

func (n *node) find(rest []byte, values *[]string) *node {
	seg, rest, more := bytes.Cut(rest, []byte("/"))
	step := func(next *node) *node {
		switch {
		case more:
			return next.find(rest, values)
		case next.routes == nil:
			return nil
		}
		return next
	}
	if next := n.static[string(seg)]; next != nil {
		if found := step(next); found != nil {
			return found
		}
	}
	if n.param == nil || len(seg) == 0 {
		return nil
	}
	value, err := url.PathUnescape(string(seg))
	if err != nil {
		return nil
	}
	depth := len(*values)
	*values = append(*values, value)
	found := step(n.param)
	if found == nil {
		*values = (*values)[:depth]
	}
	return found
}

// rawPath takes the path out of a request target, which is a path, maybe with a
// query, or (from a proxy's client) a whole URL.
func rawPath(target []byte) (path []byte, ok bool) {
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) > len(scheme) && bytes.EqualFold(target[:len(scheme)], []byte(scheme)) {
			target = target[len(scheme):]
			i := bytes.IndexByte(target, '/')
			if i < 0 {
				return nil, false
			}
			target = target[i:]
			break
		}
	}
	path, _, _ = bytes.Cut(target, []byte("?"))
	if len(path) == 0 || path[0] != '/' || bytes.IndexByte(path, '#') >= 0 {
		return nil, false
	}
	return path, true
}
