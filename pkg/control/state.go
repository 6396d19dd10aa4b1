package control

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"

	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// Change is one thing that a command did: to an org, a key or an endpoint, of
// which the new one is nil when it was taken away, the one before when it was made;
// or to a replay, which was begun or has ended.
type Change struct {
	Offset                   int64 // of the command
	Org, OrgBefore           *Org
	Key, KeyBefore           *Key
	Endpoint, EndpointBefore *endpoint.Endpoint
	Replay                   *Replay
}

// state is what commands are applied to. Orgs, keys, users, entries and providers never change; they
// are replaced. So whoever copies pointers to them has the state of one moment.
type state struct {
	sealer *Sealer // opens secrets; every node has the same keys

	begun       bool
	incarnation event.Incarnation
	lanes       int32
	sealedWith  []string // fingerprints of all sealing keys there were, the newest last

	orgs   map[string]*Org
	orgIDs []string        // in order of creation
	slugs  map[string]bool // those that orgs have
	gone   map[string]bool // ids of orgs that were deleted

	keys      map[string]*Key
	keyByHash map[[32]byte]*Key
	keysOf    map[string][]*Key // by org, in order of creation

	users  map[string]*User // by e-mail address
	userOf map[string]*User // by org

	endpoints map[string]*entry
	homes     map[place]*home // those that have endpoints
	wanted    map[event.Environment]*index

	replays   map[string][]*Replay // by endpoint, in order of creation
	replaying map[string]*Replay   // by id: those that haven't ended

	providers map[string]map[string]*Provider // by org and name

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

// home is a place with what is there.
type home struct {
	place
	entries []*entry // in order of creation
}

func newState(sealer *Sealer) *state {
	s := &state{
		sealer:    sealer,
		orgs:      make(map[string]*Org),
		slugs:     make(map[string]bool),
		gone:      make(map[string]bool),
		keys:      make(map[string]*Key),
		keyByHash: make(map[[32]byte]*Key),
		keysOf:    make(map[string][]*Key),
		users:     make(map[string]*User),
		userOf:    make(map[string]*User),
		endpoints: make(map[string]*entry),
		homes:     make(map[place]*home),
		wanted:    make(map[event.Environment]*index),
		replays:   make(map[string][]*Replay),
		replaying: make(map[string]*Replay),
		providers: make(map[string]map[string]*Provider),
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
	if o.Slug != "" {
		s.slugs[o.Slug] = true
	}
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
	delete(s.slugs, o.Slug)
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

// countKeys counts an org's keys without its sessions.
func (s *state) countKeys(org string) (n int) {
	for _, k := range s.keysOf[org] {
		if k.User == "" {
			n++
		}
	}
	return n
}

// home gives the place as it is kept, once for all that is there. org is the id as
// its org has it.
func (s *state) home(org string, env event.Environment) *home {
	at := place{org, env}
	if h := s.homes[at]; h != nil {
		return h
	}
	return &home{place: at}
}

// endpointsOf lists a place's endpoints in order of creation.
func (s *state) endpointsOf(org string, env event.Environment) []*entry {
	if h := s.homes[place{org, env}]; h != nil {
		return h.entries
	}
	return nil
}

func (s *state) addEndpoint(e *entry) {
	h := e.home
	s.homes[h.place] = h
	h.entries = append(h.entries, e)
	s.endpoints[e.id()] = e
	s.wanted[h.env].add(e)
	s.toggle(appendEndpoint(s.buf, e))
}

func (s *state) replaceEndpoint(before, e *entry) {
	if i, found := slices.BinarySearchFunc(e.home.entries, e.created, byCreation); found {
		e.home.entries[i] = e
	}
	s.endpoints[e.id()] = e
	s.wanted[e.home.env].replace(before, e)
	s.toggle(appendEndpoint(s.buf, before))
	s.toggle(appendEndpoint(s.buf, e))
}

func (s *state) removeEndpoint(e *entry) {
	h, id := e.home, e.id()
	s.removeReplays(id)
	delete(s.endpoints, id)
	if h.entries = without(h.entries, e); len(h.entries) == 0 {
		delete(s.homes, h.place)
	}
	s.wanted[h.env].remove(e)
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
