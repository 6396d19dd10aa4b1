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

// NewSecret is a secret that comes in the place of the newest. The ones that there are
// stay good beside it for the overlap, and none of them longer than it would have been
// before.
type NewSecret struct {
	Secret  endpoint.Secret `json:"-"` // never in the log
	Sealed  []byte          `json:"sealed"`
	Version uint32          `json:"version"` // Do sets it
	Overlap int64           `json:"overlap"` // seconds
}

// RotateSecret gives an endpoint another secret; the ones it had go on signing beside
// it. ErrConflict: it was rotated meanwhile. ErrLimit: MaxPrevious secrets sign already
// beside the newest.
type RotateSecret struct {
	Endpoint string `json:"endpoint"`
	NewSecret
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
		if err := sealed.rotate(&cmd.NewSecret, at.at); err != nil {
			return err
		}
		ep.UpdatedAt = at.at
		return nil
	})
	if err == nil { // with the secrets opened
		changes[0].Endpoint = s.endpoints[cmd.Endpoint].endpoint(s.sealer)
	}
	return changes, err
}

// rotate puts a secret in the place of the newest. An empty one isn't kept beside it.
func (s *sealed) rotate(to *NewSecret, now time.Time) error {
	if to.Version != s.version+1 {
		return fmt.Errorf("version %d, not %d: %w", s.version, to.Version-1, ErrConflict)
	}
	until := now.Add(time.Duration(to.Overlap) * time.Second)
	previous := append(slices.Clone(s.previous), sealedSecret{s.secret, s.version, until})
	for i := range previous {
		if until.Before(previous[i].until) {
			previous[i].until = until
		}
	}
	previous = slices.DeleteFunc(previous, func(p sealedSecret) bool { return p.secret == "" || !now.Before(p.until) })
	if len(previous) > MaxPrevious {
		return fmt.Errorf("%d secrets are good beside the newest: %w", MaxPrevious, ErrLimit)
	}
	s.secret, s.version, s.previous = string(to.Sealed), to.Version, previous
	return nil
}

func validOverlap(seconds int64) bool {
	return seconds >= 0 && seconds <= int64(maxOverlap/time.Second)
}

// maxOverlap is a bound of what the state can hold, far above what may be asked for.
const maxOverlap = 100 * 365 * 24 * time.Hour
