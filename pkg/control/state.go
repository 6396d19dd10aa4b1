package control

import (
	"crypto/sha256"
	"crypto/subtle"
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
// it is replaced. So whoever copies the pointers has the state of one moment.
type state struct {
	sealer *Sealer // opens secrets; every node has the same keys

	begun       bool
	incarnation event.Incarnation
	lanes       int32
	sealedWith  []string // fingerprints of all sealing keys there were, the newest last

	orgs   map[string]*Org
	orgIDs []string        // in order of creation
	gone   map[string]bool // ids of orgs that were deleted

	keys      map[string]*Key
	keyByHash map[[32]byte]*Key
	keysOf    map[string][]*Key // by org, in order of creation

	endpoints   map[string]*entry
	endpointsOf map[place][]*entry // in order of creation
	wanted      map[event.Environment]*index
	dialects    map[string]string // their names, each kept once

	// hash is the exclusive or of the SHA-256 of everything above, each thing as
	// in a snapshot: whatever comes or goes is hashed once, and the order of
	// hashing doesn't matter.
	hash [32]byte
	buf  []byte // what is hashed next
}

// place is where endpoints are: one org's in one environment.
type place struct {
	org string
	env event.Environment
}

// entry is an endpoint with what only we need of it.
type entry struct {
	endpoint.Endpoint
	created int64  // offset of the command that made it: the order of lists
	sealed  string // its secret as it lies in the log
	group   *group
}

func newState(sealer *Sealer) *state {
	s := &state{
		sealer:      sealer,
		orgs:        make(map[string]*Org),
		gone:        make(map[string]bool),
		keys:        make(map[string]*Key),
		keyByHash:   make(map[[32]byte]*Key),
		keysOf:      make(map[string][]*Key),
		endpoints:   make(map[string]*entry),
		endpointsOf: make(map[place][]*entry),
		wanted:      make(map[event.Environment]*index),
		dialects:    make(map[string]string),
	}
	for _, env := range event.Environments {
		s.wanted[env] = newIndex()
	}
	return s
}

// toggle takes a thing into the hash, or out of it.
func (s *state) toggle(thing []byte) {
	s.buf = thing[:0]
	sum := sha256.Sum256(thing)
	subtle.XORBytes(s.hash[:], s.hash[:], sum[:])
}

// setLog changes what is true of the whole log.
func (s *state) setLog(change func()) {
	if s.begun {
		s.toggle(appendLog(s.buf, s))
	}
	change()
	s.toggle(appendLog(s.buf, s))
}

func (s *state) addOrg(o *Org) {
	s.orgs[o.ID] = o
	s.orgIDs = append(s.orgIDs, o.ID)
	s.toggle(appendOrg(s.buf, o))
}

func (s *state) replaceOrg(before, o *Org) {
	s.orgs[o.ID] = o
	s.toggle(appendOrg(s.buf, before))
	s.toggle(appendOrg(s.buf, o))
}

func (s *state) removeOrg(o *Org) {
	delete(s.orgs, o.ID)
	s.orgIDs = slices.DeleteFunc(s.orgIDs, func(id string) bool { return id == o.ID })
	s.toggle(appendOrg(s.buf, o))
}

// retire keeps the id of an org that was deleted from being given again.
func (s *state) retire(id string) {
	s.gone[id] = true
	s.toggle(appendGone(s.buf, id))
}

func (s *state) addKey(k *Key) {
	s.keys[k.ID] = k
	s.keyByHash[k.Hash] = k
	s.keysOf[k.Org] = append(s.keysOf[k.Org], k)
	s.toggle(appendKey(s.buf, k))
}

func (s *state) removeKey(k *Key) {
	delete(s.keys, k.ID)
	delete(s.keyByHash, k.Hash)
	s.keysOf[k.Org] = slices.DeleteFunc(s.keysOf[k.Org], func(o *Key) bool { return o == k })
	if len(s.keysOf[k.Org]) == 0 {
		delete(s.keysOf, k.Org)
	}
	s.toggle(appendKey(s.buf, k))
}

func (s *state) addEndpoint(e *entry) {
	at := place{e.Org, e.Environment}
	s.endpoints[e.ID] = e
	s.endpointsOf[at] = append(s.endpointsOf[at], e)
	s.wanted[e.Environment].add(e)
	s.toggle(appendEndpoint(s.buf, e))
}

func (s *state) replaceEndpoint(before, e *entry) {
	list := s.endpointsOf[place{e.Org, e.Environment}]
	if i, found := slices.BinarySearchFunc(list, e.created, byCreation); found {
		list[i] = e
	}
	s.endpoints[e.ID] = e
	s.wanted[e.Environment].replace(before, e)
	s.toggle(appendEndpoint(s.buf, before))
	s.toggle(appendEndpoint(s.buf, e))
}

func (s *state) removeEndpoint(e *entry) {
	at := place{e.Org, e.Environment}
	delete(s.endpoints, e.ID)
	if s.endpointsOf[at] = without(s.endpointsOf[at], e); len(s.endpointsOf[at]) == 0 {
		delete(s.endpointsOf, at)
	}
	s.wanted[e.Environment].remove(e)
	s.toggle(appendEndpoint(s.buf, e))
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

// dialect gives the name as it is kept, once for all endpoints.
func (s *state) dialect(name string) string {
	if kept, ok := s.dialects[name]; ok {
		return kept
	}
	if len(s.dialects) < maxDialects {
		s.dialects[name] = name
	}
	return name
}

// maxDialects bounds the names that are kept once; there are far fewer.
const maxDialects = 64
