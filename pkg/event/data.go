package event

import "strings"

// MaxDepth is how deep data may nest; data itself is depth 1.
const MaxDepth = 64

// maxInteger is the largest integer that every reader of JSON agrees on, 2^53-1.
const maxInteger = 1<<53 - 1

// DataError says what is wrong with an event's data, for whoever sent it.
type DataError struct {
	Path    []string // member names and indexes, from the top of data
	Message string   // what is wrong, and what would be right
}

func (e *DataError) Error() string {
	if len(e.Path) == 0 {
		return "data: " + e.Message
	}
	return "data." + strings.Join(e.Path, ".") + ": " + e.Message
}

// Canonical checks that data is one JSON object, strictly (I-JSON), and gives
// the bytes that JSON.stringify(JSON.parse(data)) prints in JavaScript:
//
//	no white space; members in their order, but integer-like names first, rising
//	numbers as the shortest text of their double: 45000.0 → 45000, -0 → 0, 1e21 → 1e+21
//	strings with the fewest escapes: \" \\ \b \f \n \r \t and \u00xx, lower case
//
// It also notes which of MemberNames are members of the object. When data is in
// that form already, it is returned as it is, without a copy. A *DataError says
// what is wrong. A double of 2^53 or more is printed as JavaScript prints it,
// and as such a literal it isn't taken again.
//
// One pass of our own over the bytes does all of it (scan.go). What it can't
// tell, or wouldn't take, is done again by jsontext (rebuild.go), which has the
// last word and finds the error's path.
func Canonical(data []byte) ([]byte, Members, error) {
	out, n, members, err := CanonicalPrefix(data)
	if err != nil {
		return nil, 0, err
	}
	for ; n < len(data); n++ {
		if !isSpace(data[n]) {
			return nil, 0, &DataError{Message: "goes on behind the end of the object; send one JSON object"}
		}
	}
	return out, members, nil
}

// CanonicalPrefix is Canonical for an object that something else may follow. It
// returns the number of bytes it took.
func CanonicalPrefix(b []byte) (out []byte, n int, members Members, err error) {
	s := scan{src: b}
	s.space()
	s.done = s.pos // what stands in front isn't in the output
	s.start = s.pos
	if s.peek() != '{' {
		return nil, 0, 0, &DataError{Message: "must be a JSON object"}
	}
	if s.object(1) {
		return s.result(), s.pos, s.members, nil
	}
	return rebuild(b)
}

// memberOf is MemberNames for bytes, without hashing.
func memberOf(name []byte) Members {
	switch string(name) {
	case "type":
		return MemberType
	case "id":
		return MemberID
	case "timestamp":
		return MemberTimestamp
	case "cursor":
		return MemberCursor
	case "network":
		return MemberNetwork
	case "subscription_id":
		return MemberSubscriptionID
	}
	return 0
}

// AppendMembers adds a comma, a name, a colon and a value for each member of
// data, without those named in skip: what a dialect's flat envelope puts behind
// its own first members.
func (ev *Event) AppendMembers(dst []byte, skip Members) []byte {
	return ev.appendMembers(dst, ev.inner(), skip)
}

// AppendNumbered adds those members of data whose names JavaScript takes for numbers,
// with a comma behind each. It writes them in front of all others, so a flat envelope
// begins with them if somebody is to come to the same bytes who parsed it and wrote it
// again. AppendNamed adds the rest, as AppendMembers does.
func (ev *Event) AppendNumbered(dst []byte) []byte {
	for members := ev.inner(); numbered(members); {
		n := memberLen(members)
		dst = append(append(dst, members[:n]...), ',')
		members = members[min(n+1, len(members)):]
	}
	return dst
}

// AppendNamed adds the members of data that AppendNumbered doesn't.
func (ev *Event) AppendNamed(dst []byte, skip Members) []byte {
	members := ev.inner()
	for numbered(members) {
		members = members[min(memberLen(members)+1, len(members)):]
	}
	return ev.appendMembers(dst, members, skip)
}

// inner gives what stands between the braces of data.
func (ev *Event) inner() []byte {
	if len(ev.Data) <= len(`{}`) {
		return nil
	}
	return ev.Data[1 : len(ev.Data)-1]
}

// numbered reports whether canonical members begin with one whose name is integer-like.
func numbered(members []byte) bool {
	if len(members) == 0 {
		return false
	}
	_, ok := arrayIndex(members[1:max(1, stringLen(members)-1)])
	return ok
}

func (ev *Event) appendMembers(dst, members []byte, skip Members) []byte {
	switch {
	case len(members) == 0:
		return dst
	case ev.Members&skip == 0:
		return append(append(dst, ','), members...)
	}
	for len(members) > 0 {
		n := memberLen(members)
		name := members[1:max(1, stringLen(members)-1)]
		if memberOf(name)&skip == 0 {
			dst = append(append(dst, ','), members[:n]...)
		}
		members = members[min(n+1, len(members)):]
	}
	return dst
}

// memberLen gives the length of the first member of canonical data, up to its
// comma or the end.
func memberLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += stringLen(b[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// stringLen gives the length of the canonical string that b begins with, its
// quotes included.
func stringLen(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
