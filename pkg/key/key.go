// Package key holds the nouns of access: API keys, their scopes, and the
// principal that a key stands for.
//
// A key is sk_test_ or sk_live_, 32 random base62 characters, and 6 base62
// characters of the CRC-32 of all before them: a mistyped key is refused without
// a look-up, and scanners of leaked secrets can match it. A dialect may have a word
// of its own in place of sk. We keep only a hash.
//
//	key.go     Scope, Principal
//	token.go   the key itself: made, checked, hashed
//	account.go passwords and addresses of people
package key

import (
	"fmt"
	"slices"
	"time"

	"sluice/pkg/event"
)

// Scope is a permission of an API key.
type Scope string

// The scopes.
const (
	Publish   Scope = "publish"   // events to its own org
	Broadcast Scope = "broadcast" // events to other orgs and to all
	Subscribe Scope = "subscribe" // streams and reads of events
	Manage    Scope = "manage"    // endpoints
)

// Scopes lists all scopes, in the order in which they are shown.
var Scopes = []Scope{Publish, Broadcast, Subscribe, Manage}

// ParseScopes reads scope names and gives them in the order of Scopes, each
// once. Its errors are written for the person who sent them.
func ParseScopes(names []string) ([]Scope, error) {
	if len(names) == 0 {
		return nil, fmt.Errorf("a key has at least one scope: publish, broadcast, subscribe or manage")
	}
	given := make(map[Scope]bool, len(names))
	for _, n := range names {
		if !slices.Contains(Scopes, Scope(n)) {
			return nil, fmt.Errorf("%q is no scope: use publish, broadcast, subscribe or manage", n)
		}
		given[Scope(n)] = true
	}
	var out []Scope
	for _, s := range Scopes {
		if given[s] {
			out = append(out, s)
		}
	}
	return out, nil
}

// Principal is who calls: an org, in an environment, by a key.
type Principal struct {
	Org         string
	Environment event.Environment
	KeyID       string
	Scopes      []Scope
	ExpiresAt   time.Time // zero: never
	// Network is the one that the key is for; empty: any. It bounds calls of dialects
	// that know networks; elsewhere such a key is refused.
	Network string
	// Session says that a login made the key: it is good in both environments, and ends
	// with the login.
	Session bool
}

// Can reports whether the principal has the scope.
func (p *Principal) Can(s Scope) bool { return slices.Contains(p.Scopes, s) }
