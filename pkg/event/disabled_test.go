package event

import (
	"testing"
	"time"
)

func TestDisabledID(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 0, 0, 123e6, time.UTC)
	id := DisabledID("wh_a", at)
	if !ValidID(id) {
		t.Errorf("%s is no valid id", id)
	}
	if made, ours := IDTime(id); !ours || !made.Equal(at) {
		t.Errorf("%s was made at %v, %v", id, made, ours)
	}
	for name, other := range map[string]string{
		"another endpoint": DisabledID("wh_b", at),
		"a moment later":   DisabledID("wh_a", at.Add(time.Millisecond)),
	} {
		if other == id {
			t.Errorf("%s has the same id", name)
		}
	}
	for _, c := range []struct {
		ev       Event
		endpoint string
		want     bool
	}{
		{Event{Type: EndpointDisabled, ID: id}, "wh_a", true},
		{Event{Type: EndpointDisabled, ID: id}, "wh_b", false},
		{Event{Type: "other.type", ID: id}, "wh_a", false},
		{Event{Type: EndpointDisabled, ID: "theirs"}, "wh_a", false}, // a publisher may use the type
		{Event{Type: EndpointDisabled, ID: NewID(at)}, "wh_a", false},
	} {
		if got := c.ev.TellsOf(c.endpoint); got != c.want {
			t.Errorf("%s %s tells of %s: %v", c.ev.Type, c.ev.ID, c.endpoint, got)
		}
	}
}
