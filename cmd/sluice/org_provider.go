package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// orgProviderCmd looks after the secrets of those whose webhooks become an org's events.
type orgProviderCmd struct {
	Set    orgProviderSetCmd    `cmd:"" help:"Set the secret that a provider's webhooks are verified with."`
	List   orgProviderListCmd   `cmd:"" help:"List the providers of an org."`
	Remove orgProviderRemoveCmd `cmd:"" help:"Remove a provider's secrets: what it sends is refused."`
}

type orgProviderSetCmd struct {
	adminFlags
	Org      string        `arg:"" help:"Id of the org."`
	Provider string        `arg:"" help:"Name of the provider."`
	Overlap  time.Duration `default:"24h" placeholder:"DURATION" help:"How long the secret of before is good beside the new one; 0s when it leaked. Default: ${default}."`
}

// Help is shown by sluice org provider set --help.
func (orgProviderSetCmd) Help() string {
	return `Reads the secret, of 8 to 256 printable characters, from standard input: an argument would be for everybody on the machine to see.
The webhooks that it signs become events of the org; each is told by the provider's id and published once.

Examples:

    sluice org provider set org_default stripe < secret.txt    # it sends to /api/webhooks/stripe
    sluice org provider set org_acme bank < secret.txt         # it sends to /api/webhooks/bank/org_acme`
}

// mostSecret is more than a secret may have, in bytes.
const mostSecret = 1 << 10

func (c *orgProviderSetCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if isTerminal(s.In) {
		fmt.Fprint(s.Err, "The secret, then Enter and Ctrl-D: ")
	}
	text, err := io.ReadAll(io.LimitReader(s.In, mostSecret))
	if err != nil {
		return fmt.Errorf("read the secret from standard input: %w", err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return errors.New("standard input is empty: the secret is read from there")
	}
	in := map[string]any{"secret": secret, "overlapSeconds": int64(c.Overlap / time.Second)}
	if _, err := api.call(ctx, http.MethodPut, providerPath(c.Org, c.Provider), in, nil); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "The secret of %s was set for %s.\n", c.Provider, c.Org)
	return nil
}

func providerPath(org, provider string) string {
	return "/admin/v1/orgs/" + url.PathEscape(org) + "/providers/" + url.PathEscape(provider)
}

type orgProviderListCmd struct {
	adminFlags
	outputFlags
	Org string `arg:"" help:"Id of the org."`
}

func (c *orgProviderListCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var list struct {
		Data []struct {
			Provider  string
			UpdatedAt time.Time
		}
	}
	answer, err := api.call(ctx, http.MethodGet, "/admin/v1/orgs/"+url.PathEscape(c.Org)+"/providers", nil, &list)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	rows := [][]string{{"PROVIDER", "CHANGED"}}
	for _, p := range list.Data {
		rows = append(rows, []string{p.Provider, shortTime(p.UpdatedAt)})
	}
	return printTable(s.Out, rows...)
}

type orgProviderRemoveCmd struct {
	adminFlags
	Org      string `arg:"" help:"Id of the org."`
	Provider string `arg:"" help:"Name of the provider."`
	Yes      bool   `short:"y" help:"Don't ask."`
}

func (c *orgProviderRemoveCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if err := confirmed(s, c.Yes, fmt.Sprintf("Remove the secrets of %s for %s?", c.Provider, c.Org)); err != nil {
		return err
	}
	if _, err := api.call(ctx, http.MethodDelete, providerPath(c.Org, c.Provider), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s was removed from %s.\n", c.Provider, c.Org)
	return nil
}
