package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// Change is one thing that a command did: to an org, a key or an endpoint. The
// new one is nil when it was taken away, the one before when it was made.
type Change struct {
	Offset                   int64 // of the command
	Org, OrgBefore           *Org
	Key, KeyBefore           *Key
	Endpoint, EndpointBefore *endpoint.Endpoint
}

// state is what commands are applied to. What its maps point to never changes;
// it is replaced.
type state struct {
	sealer *Sealer // opens secrets; every node has the same key

	begun       bool
	incarnation event.Incarnation
	lanes       int32
	sealedWith  string

	orgs   map[string]*Org
	orgIDs []string        // in order of creation
	gone   map[string]bool // ids of orgs that were deleted

	keys      map[string]*Key
	keyByHash map[[32]byte]*Key
	keysOf    map[string][]*Key // by org, in order of creation

	endpoints   map[string]*entry
	endpointsOf map[place][]*entry             // in order of creation
	inEnv       map[event.Environment][]*entry // the same, of all orgs
	matching    map[event.Environment]*matching
}

// place is where endpoints are: one org's in one environment.
type place struct {
	org string
	env event.Environment
}

// entry is an endpoint with what only we need of it.
type entry struct {
	*endpoint.Endpoint
	created int64  // offset of the command that made it: the order of lists
	sealed  []byte // its secret as it lies in the log
}

func newState(sealer *Sealer) *state {
	return &state{
		sealer:      sealer,
		orgs:        make(map[string]*Org),
		gone:        make(map[string]bool),
		keys:        make(map[string]*Key),
		keyByHash:   make(map[[32]byte]*Key),
		keysOf:      make(map[string][]*Key),
		endpoints:   make(map[string]*entry),
		endpointsOf: make(map[place][]*entry),
		inEnv:       make(map[event.Environment][]*entry),
		matching:    newMatching(),
	}
}

func (s *state) addKey(k *Key) {
	s.keys[k.ID] = k
	s.keyByHash[k.Hash] = k
	s.keysOf[k.Org] = append(s.keysOf[k.Org], k)
}

func (s *state) removeKey(k *Key) {
	delete(s.keys, k.ID)
	delete(s.keyByHash, k.Hash)
	s.keysOf[k.Org] = slices.DeleteFunc(s.keysOf[k.Org], func(o *Key) bool { return o == k })
	if len(s.keysOf[k.Org]) == 0 {
		delete(s.keysOf, k.Org)
	}
}

func (s *state) addEndpoint(e *entry) {
	at := place{e.Org, e.Environment}
	s.endpoints[e.ID] = e
	s.endpointsOf[at] = append(s.endpointsOf[at], e)
	s.inEnv[e.Environment] = append(s.inEnv[e.Environment], e)
	s.matching[e.Environment].forget()
}

func (s *state) removeEndpoint(e *entry) {
	at := place{e.Org, e.Environment}
	delete(s.endpoints, e.ID)
	if s.endpointsOf[at] = without(s.endpointsOf[at], e); len(s.endpointsOf[at]) == 0 {
		delete(s.endpointsOf, at)
	}
	s.inEnv[e.Environment] = without(s.inEnv[e.Environment], e)
	s.matching[e.Environment].forget()
}

// without takes e out of a list in order of creation.
func without(list []*entry, e *entry) []*entry {
	i, found := slices.BinarySearchFunc(list, e.created, byCreation)
	if !found {
		return list
	}
	return slices.Delete(list, i, i+1)
}

func byCreation(e *entry, created int64) int { return int(e.created - created) }

// hash is a fingerprint of everything in the state: nodes that applied the same
// commands have the same.
func (s *state) hash() [32]byte {
	type sealedEndpoint struct {
		endpoint.Endpoint
		Patterns []string
		Sealed   []byte
		Created  int64
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b) // sorts the keys of maps
	put := func(v any) {
		if err := enc.Encode(v); err != nil {
			panic(err) // nothing of ours fails to encode
		}
	}
	put([]any{s.begun, s.incarnation, s.lanes, s.sealedWith, s.orgIDs, s.gone})
	for _, id := range s.orgIDs {
		put(s.orgs[id])
		put(s.keysOf[id])
	}
	for _, id := range slices.Sorted(maps.Keys(s.endpoints)) {
		e := s.endpoints[id]
		put(sealedEndpoint{*e.Endpoint, e.Patterns.Strings(), e.sealed, e.created})
	}
	return sha256.Sum256(b.Bytes())
}
