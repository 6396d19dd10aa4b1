package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/pkg/endpoint"
)

// firstSecret is the version of the secret that an endpoint is made with; each
// rotation's is one higher. It is sealed in with the secret.
const firstSecret = 1

// MaxPrevious bounds the secrets that sign beside the newest.
const MaxPrevious = 3

// sealed is what of an endpoint is encrypted, as it lies in the log.
type sealed struct {
	secret   string
	version  uint32
	previous []sealedSecret // the oldest first
	headers  string         // empty: none were ever set
}

// sealedSecret is a secret that a newer one has replaced.
type sealedSecret struct {
	secret  string
	version uint32
	until   time.Time
}

// RotateSecret gives an endpoint another secret. The ones it had go on signing
// beside it for the overlap, and none of them longer than it would have before.
// ErrConflict: it was rotated meanwhile. ErrLimit: MaxPrevious secrets sign already
// beside the newest.
type RotateSecret struct {
	Endpoint string          `json:"endpoint"`
	Secret   endpoint.Secret `json:"-"` // never in the log
	Sealed   []byte          `json:"sealed"`
	Version  uint32          `json:"version"` // of the secret; Do sets it
	Overlap  int64           `json:"overlap"` // seconds
}

func (*RotateSecret) op() string { return "endpoint.rotate" }

func (cmd *RotateSecret) prepare(_ context.Context, c *Control) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.state.endpoints[cmd.Endpoint]
	if e == nil {
		return fmt.Errorf("endpoint %s: %w", cmd.Endpoint, ErrNotFound)
	}
	cmd.Version = e.sealed().version + 1
	cmd.Sealed = c.sealer.Seal(cmd.Secret, e.home.org, cmd.Endpoint, cmd.Version)
	return nil
}

func (cmd *RotateSecret) apply(s *state, at stamp) ([]Change, error) {
	if !validOverlap(cmd.Overlap) {
		return nil, fmt.Errorf("%w: overlap of %d s", errUnreadable, cmd.Overlap)
	}
	if e := s.endpoints[cmd.Endpoint]; e != nil {
		if _, err := s.sealer.Open(cmd.Sealed, e.home.org, cmd.Endpoint, cmd.Version); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnreadable, err)
		}
	}
	changes, err := s.change(cmd.Endpoint, at, "rotate secret of", func(ep *endpoint.Endpoint, sealed *sealed) error {
		if cmd.Version != sealed.version+1 {
			return fmt.Errorf("version %d, not %d: %w", sealed.version, cmd.Version-1, ErrConflict)
		}
		previous, err := sealed.retire(at.at, cmd.Overlap)
		if err != nil {
			return err
		}
		sealed.secret, sealed.version, sealed.previous = string(cmd.Sealed), cmd.Version, previous
		ep.UpdatedAt = at.at
		return nil
	})
	if err == nil { // with the secrets opened
		changes[0].Endpoint = s.endpoints[cmd.Endpoint].endpoint(s.sealer)
	}
	return changes, err
}

// retire gives the secrets that are good beside a newer one, so many seconds from now
// on at most. One that is empty isn't among them.
func (s *sealed) retire(now time.Time, overlap int64) ([]sealedSecret, error) {
	until := now.Add(time.Duration(overlap) * time.Second)
	previous := append(slices.Clone(s.previous), sealedSecret{s.secret, s.version, until})
	for i := range previous {
		if until.Before(previous[i].until) {
			previous[i].until = until
		}
	}
	previous = slices.DeleteFunc(previous, func(p sealedSecret) bool { return p.secret == "" || !now.Before(p.until) })
	if len(previous) > MaxPrevious {
		return nil, fmt.Errorf("%d secrets are good beside the newest: %w", MaxPrevious, ErrLimit)
	}
	return previous, nil
}

func validOverlap(seconds int64) bool {
	return seconds >= 0 && seconds <= int64(maxOverlap/time.Second)
}

// maxOverlap is a bound of what the state can hold, far above what may be asked for.
const maxOverlap = 100 * 365 * 24 * time.Hour
