package event

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// plain is an event as others write it into the topic of its environment: the
// JSON that POST /v1/events takes, with the id and the org that the API would
// know. docs/record-format.md tells them.
type plain struct {
	ID        string         `json:"id"`
	Org       string         `json:"org"`
	Type      string         `json:"type"`
	Data      jsontext.Value `json:"data"`
	Audience  jsontext.Value `json:"audience"`
	Key       given          `json:"key"`
	Corridor  given          `json:"corridor"`
	Network   given          `json:"network"`
	Timestamp given          `json:"timestamp"`
}

// given is a text that may be left out. As for the API, null isn't that.
type given struct {
	text string
	is   bool
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (g *given) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	token, err := dec.ReadToken()
	if err != nil {
		return err
	}
	if token.Kind() != '"' {
		return errors.New("it is no string")
	}
	*g = given{token.String(), true}
	return nil
}

// decodePlain reads such an event. Names that aren't known are refused: a mistyped
// audience would show it to the wrong people, or hide it.
func decodePlain(value []byte, env Environment, logged time.Time) (*Event, error) {
	var p plain
	if err := json.Unmarshal(value, &p, json.RejectUnknownMembers(true)); err != nil {
		return nil, plainError(err)
	}
	ev := &Event{ID: p.ID, Org: p.Org, Type: p.Type, Environment: env, Data: p.Data, Timestamp: logged.UTC().Truncate(time.Millisecond)}
	if p.Timestamp.is {
		t, ok := ParseTimestamp(p.Timestamp.text)
		if !ok {
			return nil, damaged("timestamp is none")
		}
		ev.Timestamp = t
	}
	for _, text := range []struct {
		name string
		from given
		to   *string
	}{{"key", p.Key, &ev.Key}, {"corridor", p.Corridor, &ev.Corridor}, {"network", p.Network, &ev.Network}} {
		if text.from.is && text.from.text == "" {
			return nil, damaged(text.name + " is empty; leave it out")
		}
		*text.to = text.from.text
	}
	if !ValidID(ev.ID) {
		return nil, damaged("id must have 1 to 64 letters, digits, '_' and '-'")
	}
	if !ValidType(ev.Type) {
		return nil, damaged("type is none")
	}
	if len(p.Data) == 0 {
		return nil, damaged("data is missing")
	}
	if err := ev.audience(p.Audience); err != nil {
		return nil, err
	}
	if err := ev.check(); err != nil {
		return nil, err
	}
	// Its producer may send it again when it isn't sure: as with events that two
	// nodes append, whoever follows the log passes over the copy.
	sum := sha256.Sum256([]byte("plain\x00" + ev.Org + "\x00" + ev.ID))
	copy(ev.Claim.ID[:], sum[:])
	return ev, nil
}

// plainError says for the producer what the decoder found.
func plainError(err error) error {
	var wrong *json.SemanticError
	switch {
	case !errors.As(err, &wrong):
		return damagedAt("", dataError(err))
	case errors.Is(err, json.ErrUnknownName):
		return damaged(clip(strings.Join(pathOf(wrong.JSONPointer), ".")) + " is no member of an event")
	}
	return damaged(strings.Join(pathOf(wrong.JSONPointer), ".") + " is of the wrong kind")
}

// damagedAt is damaged for a DataError that is about what stands at top.
func damagedAt(top string, err error) error {
	var wrong *DataError
	if !errors.As(err, &wrong) {
		return damaged(err.Error())
	}
	path := strings.TrimPrefix(strings.Join(append([]string{top}, wrong.Path...), "."), ".")
	if path == "" {
		return damaged(wrong.Message)
	}
	return damaged(clip(path) + ": " + wrong.Message)
}

// audience reads "*", a list of orgs, or nothing: then it is for its own org.
func (ev *Event) audience(raw jsontext.Value) error {
	switch {
	case len(raw) == 0:
		ev.Audience.Orgs = []string{ev.Org}
	case string(raw) == `"*"`:
		ev.Audience.All = true
	default:
		err := json.Unmarshal(raw, &ev.Audience.Orgs)
		if err != nil || len(ev.Audience.Orgs) == 0 || slices.Contains(ev.Audience.Orgs, "*") {
			return damaged(`audience must be "*" or a list of org ids; leave it out for the event's own org`)
		}
		slices.Sort(ev.Audience.Orgs)
		ev.Audience.Orgs = slices.Compact(ev.Audience.Orgs)
	}
	return nil
}

// check holds an event that ingest didn't make to ingest's bounds, and brings its
// data into canonical form.
func (ev *Event) check() error {
	for _, text := range []struct {
		name, value string
		most        int
	}{{"key", ev.Key, MaxKey}, {"corridor", ev.Corridor, MaxAttribute}, {"network", ev.Network, MaxAttribute}} {
		if text.value != "" && !ValidText(text.value, text.most) {
			return damaged(fmt.Sprintf("%s must have 1 to %d bytes of UTF-8 and no control characters", text.name, text.most))
		}
	}
	if !ValidText(ev.Org, MaxAttribute) {
		return damaged("org is missing or none")
	}
	if len(ev.Audience.Orgs) > MaxAudience {
		return damaged("audience names more than 1000 orgs")
	}
	for _, org := range ev.Audience.Orgs {
		if !ValidText(org, MaxAttribute) {
			return damaged("audience names what is no org id")
		}
	}
	if year := ev.Timestamp.Year(); year < 0 || year > 9999 {
		return damaged("timestamp is outside the years 0000 to 9999")
	}
	data, members, err := Canonical(ev.Data)
	if err != nil {
		return damagedAt("data", err)
	}
	if len(data) > MaxData {
		return damaged("data has more than 256 KiB")
	}
	ev.Data, ev.Members = data, members
	return nil
}

// damaged is ErrRecord with a reason.
func damaged(reason string) error {
	return fmt.Errorf("%w: %s", ErrRecord, reason)
}

// clip keeps a producer's text short: it goes into logs and dead letters.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// ValidText reports whether s may be a key, a corridor, a network or an org's id:
// 1 to most bytes of UTF-8 without control characters.
func ValidText(s string, most int) bool {
	return len(s) > 0 && len(s) <= most && utf8.ValidString(s) &&
		strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) < 0
}

// ParseTimestamp reads a time as RFC 3339 writes it, in the years 0000 to 9999,
// and cuts it to milliseconds.
func ParseTimestamp(s string) (time.Time, bool) {
	var t time.Time
	// UnmarshalText takes RFC 3339 and nothing else; time.Parse is more lenient.
	if len(s) > 64 || t.UnmarshalText([]byte(s)) != nil {
		return t, false
	}
	t = t.UTC().Truncate(time.Millisecond)
	// The zero time would pass for none.
	return t, t.Year() >= 0 && t.Year() <= 9999 && !t.IsZero()
}
