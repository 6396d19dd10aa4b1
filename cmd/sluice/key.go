package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/key"
)

// keyCmd looks after API keys, by the admin API; new needs no server.
type keyCmd struct {
	New    keyNewCmd    `cmd:"" help:"Print a new key, without calling a server; for SLUICE_BOOTSTRAP_KEY."`
	Create keyCreateCmd `cmd:"" help:"Create a key of an org."`
	List   keyListCmd   `cmd:"" help:"List the keys of an org."`
	Revoke keyRevokeCmd `cmd:"" help:"Revoke a key; its open streams are closed within a second."`
}

type keyNewCmd struct {
	Live bool `help:"Make a key of the live environment (sk_live_…), not of the sandbox (sk_test_…)."`
}

func (c *keyNewCmd) Run(s std) error {
	env := event.Sandbox
	if c.Live {
		env = event.Live
	}
	fmt.Fprintln(s.Out, string(key.New(env)))
	return nil
}

// apiKey is a key, as the admin API gives it; the key itself only when it is made.
type apiKey struct {
	ID          string
	Key         string
	Name        string
	Environment string
	Scopes      []string
	CreatedAt   time.Time
	ExpiresAt   time.Time
}

type keyCreateCmd struct {
	adminFlags
	outputFlags
	Org     string    `arg:"" help:"Id of the org."`
	Live    bool      `help:"Make a key of the live environment. Default: of the sandbox."`
	Scopes  []string  `default:"publish,subscribe,manage" enum:"publish,broadcast,subscribe,manage" placeholder:"SCOPE" help:"What it may do: publish (events to its own org), broadcast (to other orgs), subscribe (streams and reads), manage (endpoints). Default: ${default}."`
	Name    string    `placeholder:"TEXT" help:"Name, for people."`
	Expires time.Time `format:"2006-01-02T15:04:05Z07:00" placeholder:"TIME" help:"When it ends, as in 2027-01-31T00:00:00Z. Default: never."`
}

func (c *keyCreateCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]any{"environment": event.Sandbox.String(), "scopes": c.Scopes}
	if c.Live {
		in["environment"] = event.Live.String()
	}
	if c.Name != "" {
		in["name"] = c.Name
	}
	if !c.Expires.IsZero() {
		in["expiresAt"] = c.Expires
	}
	var made apiKey
	answer, err := api.call(ctx, http.MethodPost, "/admin/v1/orgs/"+url.PathEscape(c.Org)+"/keys", in, &made)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	// The key alone goes to standard output, so that it can be assigned.
	fmt.Fprintf(s.Err, "Key %s of %s, for %s. It is shown this once and kept only as a hash:\n", made.ID, c.Org, strings.Join(c.Scopes, ", "))
	fmt.Fprintln(s.Out, made.Key)
	return nil
}

type keyListCmd struct {
	adminFlags
	outputFlags
	Org string `arg:"" help:"Id of the org."`
}

func (c *keyListCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var list struct{ Data []apiKey }
	answer, err := api.call(ctx, http.MethodGet, "/admin/v1/orgs/"+url.PathEscape(c.Org)+"/keys", nil, &list)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	rows := [][]string{{"ID", "NAME", "ENVIRONMENT", "SCOPES", "CREATED", "EXPIRES"}}
	for _, k := range list.Data {
		rows = append(rows, []string{k.ID, k.Name, k.Environment, strings.Join(k.Scopes, ","), shortTime(k.CreatedAt), shortTime(k.ExpiresAt)})
	}
	return printTable(s.Out, rows...)
}

type keyRevokeCmd struct {
	adminFlags
	Org string `arg:"" help:"Id of the org."`
	ID  string `arg:"" name:"key-id" help:"Id of the key, as sluice key list shows it."`
}

func (c *keyRevokeCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if _, err := api.call(ctx, http.MethodDelete, "/admin/v1/orgs/"+url.PathEscape(c.Org)+"/keys/"+url.PathEscape(c.ID), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s was revoked.\n", c.ID)
	return nil
}
