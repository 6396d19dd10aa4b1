package manage

import (
	"context"
	"errors"
	"fmt"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

// MaxOverlap bounds how long the secrets of before may go on signing, in seconds.
const MaxOverlap = 7 * 24 * 60 * 60

// RotateSecret makes the endpoint another secret, which the one returned has.
func (c *Core) RotateSecret(ctx context.Context, p *key.Principal, id string, overlap int64) (*endpoint.Endpoint, error) {
	if _, err := c.Endpoint(ctx, p, id); err != nil {
		return nil, err
	}
	if overlap < 0 || overlap > MaxOverlap {
		return nil, dialect.Invalid(dialect.Issue{Path: []string{"overlapSeconds"},
			Message: fmt.Sprintf("must be 0 to %d: how long the secret of before goes on signing beside the new one", MaxOverlap)})
	}
	change, err := c.control.Do(ctx, &control.RotateSecret{Endpoint: id, NewSecret: control.NewSecret{Secret: endpoint.Secret(newSecret()), Overlap: overlap}})
	switch {
	case errors.Is(err, control.ErrLimit):
		return nil, &dialect.Error{Status: 409, Code: dialect.Conflict, Message: fmt.Sprintf(
			"%d secrets of before sign beside the newest already: wait until an overlap ends, or give overlapSeconds 0 to end them all", control.MaxPrevious)}
	case err != nil:
		return nil, refusal(err)
	}
	return change.Endpoint, nil
}
