package control_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"sluice/pkg/endpoint"
)

// What control is held to: orgs, keys and endpoints as if there were one node,
// that does one thing after another. Everything is by group: two orgs that want
// the same keys. Groups know nothing of each other, so each is a history of its
// own.
//
//	an org's id     is given once, for good
//	a key           is one org's, in all the group
//	limits          keys and endpoints of an org
//	version, epoch  what is expected is what there is
const (
	groupOrgs    = 2
	groupTokens  = 3
	mostKeys     = 2
	mostEndpoint = 3
)

// verb is what is asked for.
type verb string

const (
	createOrg      verb = "create org"
	updateOrg      verb = "update org"
	deleteOrg      verb = "delete org"
	createKey      verb = "create key"
	revokeKey      verb = "revoke key"
	createEndpoint verb = "create endpoint"
	patchText      verb = "patch text"
	patchURL       verb = "patch url"
	patchStatus    verb = "patch status"
	enable         verb = "enable"
	disable        verb = "disable"
	addMissed      verb = "add missed"
	deleteEndpoint verb = "delete endpoint"

	readOrg       verb = "read org"
	readKeys      verb = "read keys"
	authenticate  verb = "authenticate"
	readEndpoint  verb = "read endpoint"
	listEndpoints verb = "list endpoints"
)

// request is one call.
type request struct {
	verb       verb
	group, org int
	id         string // of a key or endpoint
	token      int
	expected   uint64 // version or epoch; 0: any version
	value      string // plan, text, URL or status
}

// answer is what came of it, or what was read.
type answer struct {
	code  string // empty: done
	shows string
}

// answered is an answer, or that nobody knows.
type answered struct {
	answer
	unknown bool
}

type modelKey struct {
	id    string
	token int
}

type modelEndpoint struct {
	id             string
	version, epoch uint64
	status         endpoint.Status
	text, url      string
	missed         int64
}

func (e modelEndpoint) show() string {
	return fmt.Sprintf("version %d epoch %d %s text=%s url=%s missed=%d", e.version, e.epoch, e.status, e.text, e.url, e.missed)
}

type modelOrg struct {
	exists, gone bool
	version      uint64
	plan         string
	keys         [mostKeys]modelKey // in order of creation, behind them empty ones
	endpoints    [mostEndpoint]modelEndpoint
}

// group is a state: compared as it is.
type group [groupOrgs]modelOrg

// do gives what a call makes of the state, and what it is answered.
func (g group) do(in request) (group, answer) {
	o := &g[in.org]
	switch in.verb {
	case createOrg:
		if o.exists || o.gone {
			return g, answer{code: "exists"}
		}
		*o = modelOrg{exists: true, version: 1, plan: in.value}
		return g, answer{shows: o.show()}
	case patchText, patchURL, patchStatus, enable, disable, addMissed, deleteEndpoint, readEndpoint:
		return g.doEndpoint(in)
	case authenticate:
		for i := range g {
			for _, k := range g[i].keys {
				if k.id != "" && k.token == in.token {
					return g, answer{shows: k.id}
				}
			}
		}
		return g, answer{code: "unauthorized"}
	case listEndpoints, readKeys:
		return g, answer{shows: o.list(in.verb)}
	}
	if !o.exists {
		return g, answer{code: "not found"}
	}
	switch in.verb {
	case updateOrg:
		if in.expected != 0 && in.expected != o.version {
			return g, answer{code: "conflict"}
		}
		o.version, o.plan = o.version+1, in.value
	case deleteOrg:
		*o = modelOrg{gone: true}
		return g, answer{}
	case createKey:
		return g.createKey(in)
	case revokeKey:
		i := slices.IndexFunc(o.keys[:], func(k modelKey) bool { return k.id == in.id })
		if i < 0 {
			return g, answer{code: "not found"}
		}
		copy(o.keys[i:], o.keys[i+1:])
		o.keys[mostKeys-1] = modelKey{}
		return g, answer{}
	case createEndpoint:
		i := slices.IndexFunc(o.endpoints[:], func(e modelEndpoint) bool { return e.id == "" })
		if i < 0 {
			return g, answer{code: "limit"}
		}
		o.endpoints[i] = modelEndpoint{id: in.id, version: 1, epoch: 1, status: endpoint.Active, url: in.value}
		return g, answer{shows: o.endpoints[i].show()}
	}
	return g, answer{shows: o.show()} // of a read, too
}

func (g group) createKey(in request) (group, answer) {
	for i := range g {
		for _, k := range g[i].keys {
			if k.id != "" && k.token == in.token {
				return g, answer{code: "exists"}
			}
		}
	}
	o := &g[in.org]
	i := slices.IndexFunc(o.keys[:], func(k modelKey) bool { return k.id == "" })
	if i < 0 {
		return g, answer{code: "limit"}
	}
	o.keys[i] = modelKey{in.id, in.token}
	return g, answer{}
}

func (g group) doEndpoint(in request) (group, answer) {
	for i := range g {
		for n := range g[i].endpoints {
			if e := &g[i].endpoints[n]; e.id == in.id {
				before := *e
				if code := e.do(in); code != "" {
					*e = before
					return g, answer{code: code}
				}
				a := answer{shows: e.show()}
				if in.verb == deleteEndpoint {
					list := &g[i].endpoints
					copy(list[n:], list[n+1:])
					list[mostEndpoint-1] = modelEndpoint{}
					a = answer{}
				}
				return g, a
			}
		}
	}
	return g, answer{code: "not found"}
}

// do changes the endpoint, or says why it can't be.
func (e *modelEndpoint) do(in request) (refused string) {
	switch in.verb {
	case readEndpoint, deleteEndpoint:
		return ""
	case patchText, patchURL, patchStatus:
		switch {
		case in.expected != 0 && in.expected != e.version:
			return "conflict"
		case in.verb == patchStatus && e.status == endpoint.Disabled:
			return "disabled"
		case in.verb == patchStatus:
			e.status = endpoint.Status(in.value)
		case in.verb == patchText:
			e.text = in.value
		case e.url != in.value:
			e.url = in.value
			e.epoch++
		}
	case enable:
		e.status, e.missed = endpoint.Active, 0
		e.epoch++
	case disable:
		if e.epoch != in.expected || e.status != endpoint.Active {
			return "conflict"
		}
		e.status = endpoint.Disabled
	case addMissed:
		e.missed++
	}
	e.version++
	return ""
}

func (o *modelOrg) show() string { return fmt.Sprintf("version %d %s", o.version, o.plan) }

func (o *modelOrg) list(v verb) string {
	var ids []string
	if v == readKeys {
		for _, k := range o.keys {
			ids = append(ids, k.id)
		}
	} else {
		for _, e := range o.endpoints {
			ids = append(ids, e.id)
		}
	}
	return strings.TrimRight(strings.Join(ids, " "), " ")
}

// model holds histories to it. A call that nobody knows the end of takes effect at
// any time after it, or, what is the same, after all that was read.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make(map[int][]porcupine.Operation)
		for _, op := range history {
			g := op.Input.(request).group
			parts[g] = append(parts[g], op)
		}
		var all [][]porcupine.Operation
		for _, part := range parts {
			all = append(all, part)
		}
		return all
	},
	Init: func() any { return group{} },
	Step: func(state, input, output any) (bool, any) {
		next, want := state.(group).do(input.(request))
		out := output.(answered)
		return out.unknown || out.answer == want, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}
