package event

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// Incarnation identifies one life of a log. It is random, made together with
// the topics, and new after a restore or a migration, because offsets mean
// nothing outside the log that gave them.
type Incarnation [8]byte

// Cursor is a place in one environment's events: everything before Next has
// been seen. To a client it is an opaque string, good on any node.
//
//	 0        1            9      10                18
//	┌────────┬────────────┬──────┬──────────────────┐
//	│ 1      │ incarnation│ env  │ next, big endian │   base64url, no padding: 24 characters
//	└────────┴────────────┴──────┴──────────────────┘
type Cursor struct {
	Incarnation Incarnation
	Environment Environment
	Next        int64
}

const (
	cursorVersion = 1
	cursorBytes   = 18
	// CursorLen is the length of an encoded cursor, in bytes.
	CursorLen = 24
)

// ErrCursor is returned for a string that is no cursor.
var ErrCursor = errors.New("not a cursor")

// Append adds the encoded cursor to dst.
func (c Cursor) Append(dst []byte) []byte {
	var raw [cursorBytes]byte
	raw[0] = cursorVersion
	copy(raw[1:9], c.Incarnation[:])
	raw[9] = byte(c.Environment)
	binary.BigEndian.PutUint64(raw[10:], uint64(c.Next))
	return base64.RawURLEncoding.AppendEncode(dst, raw[:])
}

// String gives the encoded cursor.
func (c Cursor) String() string { return string(c.Append(make([]byte, 0, CursorLen))) }

// ParseCursor decodes a cursor. Whether its incarnation, environment and place
// still mean something is for the reader of the log to say.
func ParseCursor(s string) (Cursor, error) {
	if len(s) != CursorLen {
		return Cursor{}, ErrCursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	// The decoder passes over line breaks, so that fewer bytes may come out.
	if err != nil || len(raw) != cursorBytes || raw[0] != cursorVersion {
		return Cursor{}, ErrCursor
	}
	c := Cursor{
		Environment: Environment(raw[9]),
		Next:        int64(binary.BigEndian.Uint64(raw[10:])),
	}
	copy(c.Incarnation[:], raw[1:9])
	if c.Next < 0 || (c.Environment != Sandbox && c.Environment != Live) {
		return Cursor{}, ErrCursor
	}
	return c, nil
}
