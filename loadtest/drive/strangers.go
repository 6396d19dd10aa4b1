package drive

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// probeWithin is how long it may take until what was acknowledged can be read.
const probeWithin = 30 * time.Second

// strangers makes sure that no key sees what is for the org of another: that is held
// against who receives it, later.
func (r *run) strangers(ctx context.Context) error {
	if len(r.Keys) == 1 {
		return nil
	}
	for org := range r.Keys {
		id := fmt.Sprintf("load_%s_probe%d", r.marks.run, org)
		in := map[string]any{"type": r.marks.typ("probe"), "id": id, "data": map[string]any{}}
		if err := r.Call(ctx, org, http.MethodPost, "/v1/events", in, nil); err != nil {
			return err
		}
		// That others don't see it says nothing as long as nobody can.
		for until := time.Now().Add(probeWithin); ; {
			if seen, err := r.sees(ctx, org, id); err != nil {
				return err
			} else if seen {
				break
			}
			if time.Now().After(until) {
				return fmt.Errorf("event %s was acknowledged and couldn't be read %v later with key %d", id, probeWithin, org+1)
			}
			if err := pause(ctx, 100*time.Millisecond); err != nil {
				return err
			}
		}
		for other := range org {
			if seen, err := r.sees(ctx, other, id); err != nil {
				return err
			} else if seen {
				return fmt.Errorf("keys %d and %d see one another's events: give keys of different orgs", other+1, org+1)
			}
		}
	}
	return nil
}

// sees says whether an org's key can read a probe.
func (r *run) sees(ctx context.Context, org int, id string) (bool, error) {
	var list struct{ Data []struct{ ID string } }
	err := r.Call(ctx, org, http.MethodGet, "/v1/events?types="+r.marks.typ("probe"), nil, &list)
	return slices.ContainsFunc(list.Data, func(e struct{ ID string }) bool { return e.ID == id }), err
}
