package main

import (
	"strings"
	"testing"
	"time"
)

// An org that is deleted is gone at once: its streams end, its key opens nothing,
// the retry that is due isn't made, and its id is never anybody's again.
func TestDeletedOrg(t *testing.T) {
	for name, config := range map[string]func(*testing.T) nodeConfig{
		"embedded": func(t *testing.T) nodeConfig { return nodeConfig{} },
		"kafka":    onBrokers,
	} {
		t.Run(name, func(t *testing.T) {
			n := startStory(t, config(t))
			a, other := n.member(t), n.member(t)
			l, stays := a.listen(t, "", "*"), other.listen(t, "", "*")
			h := a.hook(t, []int{500}, "*") // the next attempt is due 5 s later
			id := a.publish(t, "settlement.complete", nil)
			l.next(t, id)
			h.next(t, id)
			if _, err := n.admin.call(t.Context(), "DELETE", "/admin/v1/orgs/"+a.org, nil, nil); err != nil {
				t.Fatal(err)
			}
			select {
			case v, open := <-l.events:
				if open {
					t.Errorf("its stream goes on: %v", v)
				}
			case <-time.After(revokedWithin):
				t.Errorf("its stream is open %v later", revokedWithin)
			}
			if _, err := a.call(t.Context(), "GET", "/v1/webhooks", nil, nil); err == nil || !strings.Contains(err.Error(), "unauthorized") {
				t.Errorf("its key: %v", err)
			}
			_, err := n.admin.call(t.Context(), "POST", "/admin/v1/orgs", map[string]string{"id": a.org, "name": "again"}, nil)
			if err == nil || !strings.Contains(err.Error(), "conflict") {
				t.Errorf("its id for another: %v", err)
			}
			stays.next(t, other.publish(t, "rfq.created", nil))
			select {
			case r := <-h.requests:
				t.Errorf("attempt %s of %s was made all the same: %v", r.attempt, r.id, r.err)
			case <-time.After(6500 * time.Millisecond):
			}
		})
	}
}
