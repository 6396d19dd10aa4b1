package tempo

import (
	"context"
	"slices"
	"strconv"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

const (
	apiKeys = "/api/v1/api-keys"

	anyNetwork    = "both"
	maxExpiryDays = 3650
)

// keyScopes are those that a key made here may have, of those that its maker has.
var keyScopes = []key.Scope{key.Publish, key.Subscribe, key.Manage}

// createKey answers with the key itself, and is the only call that does.
func createKey(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	in := struct {
		Name          string  `json:"name"`
		Network       *string `json:"network"`
		ExpiresInDays *int    `json:"expires_in_days"`
		Environment   *string `json:"environment"`
	}{}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	p := &r.Principal
	spec := dialect.KeySpec{Brand: name, Environment: p.Environment, Name: in.Name, Network: p.Network}
	for _, s := range keyScopes {
		if p.Can(s) {
			spec.Scopes = append(spec.Scopes, s)
		}
	}
	var issues []dialect.Issue
	bad := func(member, message string) {
		issues = append(issues, dialect.Issue{Path: []string{member}, Message: message})
	}
	if n := in.Network; n != nil {
		if *n != anyNetwork && !slices.Contains(networks, *n) {
			bad("network", "must be mainnet, testnet or both")
		}
		if spec.Network = *n; *n == anyNetwork {
			spec.Network = ""
		}
	}
	if days := in.ExpiresInDays; days != nil {
		if *days < 1 || *days > maxExpiryDays {
			bad("expires_in_days", "must be 1 to "+strconv.Itoa(maxExpiryDays)+": leave it out for a key that never expires")
		}
		spec.ExpiresAt = r.Now.AddDate(0, 0, *days)
	}
	if env := in.Environment; env != nil {
		var known bool
		if spec.Environment, known = event.ParseEnvironment(*env); !known {
			bad("environment", "must be sandbox or live")
		}
	}
	if len(issues) > 0 {
		return nil, dialect.Invalid(issues...)
	}
	made, err := core.CreateKey(ctx, p, spec)
	if err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 201, Body: appendKey(nil, made)}, nil
}

func listKeys(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	offset, limit, wrong := window(r)
	if wrong != nil {
		return nil, wrong
	}
	all, err := core.Keys(ctx, &r.Principal)
	if err != nil {
		return nil, err
	}
	begin := min(offset, len(all))
	end := min(begin+limit, len(all))
	body := []byte(`{"api_keys":[`)
	for i := range all[begin:end] {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendKey(body, &all[begin+i])
	}
	return counted(body, len(all), end < len(all)), nil
}

func deleteKey(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	if err := core.RevokeKey(ctx, &r.Principal, r.Param("key")); err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 204}, nil
}

func appendKey(dst []byte, k *dialect.Key) []byte {
	dst = dialect.AppendString(append(dst, `{"id":`...), k.ID)
	if k.Token != "" {
		dst = dialect.AppendMember(dst, "key", string(k.Token))
	}
	dst = dialect.AppendMember(dst, "key_prefix", k.Start)
	dst = dialect.AppendMember(dst, "name", k.Name)
	network := k.Network
	if network == "" {
		network = anyNetwork
	}
	dst = dialect.AppendMember(dst, "network", network)
	dst = dialect.AppendMember(dst, "environment", k.Environment.String())
	dst = appendTimeOrNull(dst, "expires_at", k.ExpiresAt)
	return append(dialect.AppendMember(dst, "created_at", dialect.Timestamp(k.CreatedAt)), '}')
}

func appendTimeOrNull(dst []byte, member string, t time.Time) []byte {
	return appendOrNull(dst, member, dialect.Timestamp(t), !t.IsZero())
}
