package manage

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
)

// defaultOverlap is how long the secrets of before are good beside a new one unless
// the call says otherwise, in seconds.
const defaultOverlap = 24 * 60 * 60

// ServeProviders adds the calls by which orgs get secrets for the webhooks of
// providers, of which there are those named. It is called before the API is served.
func (a *Admin) ServeProviders(names []string) {
	known := func(serve func(*http.Request) (int, any, error)) func(*http.Request) (int, any, error) {
		return func(r *http.Request) (int, any, error) {
			if !slices.Contains(names, r.PathValue("provider")) {
				return 0, nil, &dialect.Error{Status: 404, Code: dialect.NotFound, Message: "no such provider: there are " + strings.Join(names, ", ")}
			}
			return serve(r)
		}
	}
	a.handle("PUT /admin/v1/orgs/{org}/providers/{provider}", known(a.setProvider))
	a.handle("DELETE /admin/v1/orgs/{org}/providers/{provider}", known(a.removeProvider))
	a.handle("GET /admin/v1/orgs/{org}/providers", a.listProviders)
}

// providerJSON says that there is a secret, and never which.
type providerJSON struct {
	Provider  string `json:"provider"`
	UpdatedAt string `json:"updatedAt"`
}

func (a *Admin) listProviders(r *http.Request) (int, any, error) {
	o, err := a.org(r)
	if err != nil {
		return 0, nil, err
	}
	out := list[providerJSON]{Data: []providerJSON{}}
	for _, p := range a.control.Providers(o.ID) {
		out.Data = append(out.Data, providerJSON{p.Name, stamp(p.UpdatedAt)})
	}
	return 200, out, nil
}

func (a *Admin) setProvider(r *http.Request) (int, any, error) {
	in := struct {
		Secret         string `json:"secret"`
		OverlapSeconds int64  `json:"overlapSeconds"`
	}{OverlapSeconds: defaultOverlap}
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	var issues []dialect.Issue
	if message := checkText(in.Secret); message != "" {
		issues = append(issues, dialect.Issue{Path: []string{"secret"}, Message: message})
	}
	if in.OverlapSeconds < 0 || in.OverlapSeconds > MaxOverlap {
		issues = append(issues, dialect.Issue{Path: []string{"overlapSeconds"}, Message: fmt.Sprintf("must be 0 to %d: how long the secret of before is good beside the new one", MaxOverlap)})
	}
	if err := invalid(issues); err != nil {
		return 0, nil, err
	}
	org, provider := r.PathValue("org"), r.PathValue("provider")
	_, err := a.control.Do(r.Context(), &control.SetProvider{Org: org, Provider: provider, NewSecret: control.NewSecret{Secret: endpoint.Secret(in.Secret), Overlap: in.OverlapSeconds}})
	switch {
	case errors.Is(err, control.ErrLimit):
		return 0, nil, &dialect.Error{Status: 409, Code: dialect.Conflict, Message: fmt.Sprintf(
			"%d secrets of before are good beside the newest already: wait until an overlap ends, or give overlapSeconds 0 to end them all", control.MaxPrevious)}
	case err != nil:
		return 0, nil, refusal(err)
	}
	for _, p := range a.control.Providers(org) {
		if p.Name == provider {
			return 200, providerJSON{p.Name, stamp(p.UpdatedAt)}, nil
		}
	}
	return 0, nil, dialect.ErrNothing // removed since
}

func (a *Admin) removeProvider(r *http.Request) (int, any, error) {
	if _, err := a.control.Do(r.Context(), &control.RemoveProvider{Org: r.PathValue("org"), Provider: r.PathValue("provider")}); err != nil {
		return 0, nil, refusal(err)
	}
	return 204, nil, nil
}
