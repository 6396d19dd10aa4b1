package web

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"sluice/pkg/dialect"
)

// owners says whose a path is, served or not. The longest prefix comes first.
type owners []owner

type owner struct {
	prefix []byte
	words  func(dst []byte, e *dialect.Error) []byte // nil: the core's
}

// Own has all that is refused below the dialect's prefixes told in its words. A
// prefix that has an owner already is a mistake in the program: it panics.
func (s *Server) Own(d *dialect.Dialect) {
	for _, prefix := range d.Prefixes {
		if slices.ContainsFunc(s.owners, func(o owner) bool { return string(o.prefix) == prefix }) {
			panic(fmt.Errorf("own prefix %s for %s: another dialect has it", prefix, d.Name))
		}
		s.owners = append(s.owners, owner{[]byte(prefix), d.AppendError})
	}
	slices.SortFunc(s.owners, func(a, b owner) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
}

// words gives how errors at a path, as it was sent, are told; nil: as the core does.
func (os owners) words(path []byte) func(dst []byte, e *dialect.Error) []byte {
	for i := range os {
		rest, found := bytes.CutPrefix(path, os[i].prefix)
		if found && (len(rest) == 0 || rest[0] == '/') {
			return os[i].words
		}
	}
	return nil
}
