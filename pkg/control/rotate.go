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
	if cmd.Overlap < 0 || cmd.Overlap > int64(maxOverlap/time.Second) {
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
		until := at.at.Add(time.Duration(cmd.Overlap) * time.Second)
		previous := append(slices.Clone(sealed.previous), sealedSecret{sealed.secret, sealed.version, until})
		for i := range previous {
			if until.Before(previous[i].until) {
				previous[i].until = until
			}
		}
		previous = slices.DeleteFunc(previous, func(p sealedSecret) bool { return !at.at.Before(p.until) })
		if len(previous) > MaxPrevious {
			return fmt.Errorf("%d secrets sign beside the newest: %w", MaxPrevious, ErrLimit)
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

// maxOverlap is a bound of what the state can hold, far above what may be asked for.
const maxOverlap = 100 * 365 * 24 * time.Hour
