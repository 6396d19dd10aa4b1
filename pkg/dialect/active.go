package dialect

import (
	"context"

	"sluice/pkg/endpoint"
	"sluice/pkg/key"
)

// PatchActive changes an endpoint of a dialect in which it is active or it isn't.
// False pauses it. True is taken for what it says, also of one that was disabled:
// that is enabled then, once all else is as the patch has it. Nil changes neither.
func PatchActive(ctx context.Context, core Core, p *key.Principal, id string, patch EndpointPatch, active *bool) (*endpoint.Endpoint, error) {
	ep, err := core.Endpoint(ctx, p, id)
	if err != nil {
		return nil, err
	}
	disabled := ep.Status == endpoint.Disabled
	if active != nil && !disabled {
		status := endpoint.Paused
		if *active {
			status = endpoint.Active
		}
		patch.Status = &status
	}
	if ep, err = core.PatchEndpoint(ctx, p, id, patch); err != nil || !disabled || active == nil || !*active {
		return ep, err
	}
	return core.EnableEndpoint(ctx, p, id, true)
}
