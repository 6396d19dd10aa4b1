package main

import (
	"fmt"
	"slices"
	"strings"
)

// role is a part of sluice that a process can be given alone.
type role string

const (
	roleAPI        role = "api"        // what is called: publishing, endpoints, reads, administration
	roleGateway    role = "gateway"    // streams
	roleDispatcher role = "dispatcher" // webhooks out
)

var everyRole = roles{roleAPI, roleGateway, roleDispatcher}

// roles are those of one process. None named stands for all.
type roles []role

func (r *roles) UnmarshalText(text []byte) error {
	*r = nil
	for s := range strings.SplitSeq(string(text), ",") {
		one := role(strings.TrimSpace(s))
		switch {
		case one == "all":
			*r = append(*r, everyRole...)
		case slices.Contains(everyRole, one):
			*r = append(*r, one)
		default:
			return fmt.Errorf("%q is no role: give all, or some of api, gateway and dispatcher with commas between", s)
		}
	}
	return nil
}

func (r roles) has(one role) bool { return len(r) == 0 || slices.Contains(r, one) }

func (r roles) all() bool {
	return !slices.ContainsFunc(everyRole, func(one role) bool { return !r.has(one) })
}

// public tells whether --listen has anything to serve.
func (r roles) public() bool { return r.has(roleAPI) || r.has(roleGateway) }

func (r roles) String() string {
	if r.all() {
		return "all"
	}
	var names []string
	for _, one := range everyRole {
		if r.has(one) {
			names = append(names, string(one))
		}
	}
	return strings.Join(names, ",")
}
