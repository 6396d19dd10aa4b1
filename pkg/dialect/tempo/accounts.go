package tempo

import (
	"context"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

// How often one address may call in a minute: nobody registers often, and behind a proxy
// all have its address.
const (
	registersPerAddress = 30
	loginsPerAddress    = 60
)

// accountWords are the members of a registration as this API has them.
var accountWords = map[string]string{"name": "full_name", "org": "organization_name", "slug": "organization_slug"}

func register(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		Email    string       `json:"email"`
		Password key.Password `json:"password"`
		FullName string       `json:"full_name"`
		OrgName  string       `json:"organization_name"`
		OrgSlug  string       `json:"organization_slug"`
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	a, err := core.Register(ctx, dialect.Registration{
		Email: in.Email, Password: in.Password, Name: in.FullName, Org: in.OrgName, Slug: in.OrgSlug, Brand: name,
	})
	if err != nil {
		return nil, inOurWords(err, accountWords)
	}
	dst := append(appendAccount([]byte{'{'}, a), `,"api_key":`...)
	return &dialect.Response{Status: 201, Body: append(appendKey(dst, a.Key), '}')}, nil
}

// login gives the session's token, and has a browser keep it as well.
func login(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	var in struct {
		Email    *string       `json:"email"`
		Password *key.Password `json:"password"`
	}
	if e := dialect.DecodeStrict(r.Body, &in); e != nil {
		return nil, e
	}
	var issues []dialect.Issue
	if in.Email == nil {
		issues = append(issues, dialect.Issue{Path: []string{"email"}, Message: "is missing"})
	}
	if in.Password == nil {
		issues = append(issues, dialect.Issue{Path: []string{"password"}, Message: "is missing"})
	}
	if len(issues) > 0 {
		return nil, dialect.Invalid(issues...)
	}
	s, err := core.Login(ctx, r.From, *in.Email, *in.Password)
	if err != nil {
		return nil, err
	}
	dst := dialect.AppendString([]byte(`{"token":`), string(s.Token))
	dst = append(dialect.AppendMember(dst, "expires_at", dialect.Timestamp(s.ExpiresAt)), ',')
	return &dialect.Response{Status: 200, Body: append(appendAccount(dst, &s.Account), '}'), Cookie: &dialect.Cookie{Token: s.Token, ExpiresAt: s.ExpiresAt}}, nil
}

func logout(ctx context.Context, core dialect.Core, r *dialect.Request) (*dialect.Response, error) {
	if err := core.Logout(ctx, &r.Principal); err != nil {
		return nil, err
	}
	return &dialect.Response{Status: 204, Cookie: &dialect.Cookie{}}, nil
}

func appendAccount(dst []byte, a *dialect.Account) []byte {
	dst = dialect.AppendString(append(dst, `"user":{"id":`...), a.User)
	dst = dialect.AppendMember(dst, "email", a.Email)
	if a.Name != "" {
		dst = dialect.AppendMember(dst, "full_name", a.Name)
	}
	dst = dialect.AppendString(append(dst, `},"organization":{"id":`...), a.Org)
	dst = dialect.AppendMember(dst, "name", a.OrgName)
	if a.Slug != "" {
		dst = dialect.AppendMember(dst, "slug", a.Slug)
	}
	return append(dst, '}')
}
