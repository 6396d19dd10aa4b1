package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// orgCmd looks after orgs, by the admin API.
type orgCmd struct {
	Create orgCreateCmd `cmd:"" help:"Create an org."`
	List   orgListCmd   `cmd:"" help:"List orgs."`
	Show   orgShowCmd   `cmd:"" help:"Show an org."`
	Usage  orgUsageCmd  `cmd:"" help:"Show what an org used, by month and by day."`
	Delete orgDeleteCmd `cmd:"" help:"Delete an org, with its keys, endpoints and providers."`

	Provider orgProviderCmd `cmd:"" help:"Manage the secrets of providers whose webhooks become an org's events."`
}

// org is one, as the admin API gives it.
type org struct {
	ID        string
	Name      string
	Plan      string
	Email     string
	CreatedAt time.Time
}

func (o *org) row() []string {
	return []string{o.ID, o.Name, o.Plan, o.Email, shortTime(o.CreatedAt)}
}

var orgTitles = []string{"ID", "NAME", "PLAN", "E-MAIL", "CREATED"}

func shortTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

type orgCreateCmd struct {
	adminFlags
	outputFlags
	Name  string `arg:"" help:"Name, for people."`
	ID    string `name:"id" placeholder:"ORG" help:"Id. Default: one is made."`
	Plan  string `default:"enterprise" enum:"free,starter,pro,enterprise" placeholder:"PLAN" help:"Plan: ${enum}. Default: ${default}."`
	Email string `placeholder:"ADDRESS" help:"Where notices go."`
}

func (c *orgCreateCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]string{"name": c.Name, "plan": c.Plan}
	if c.ID != "" {
		in["id"] = c.ID
	}
	if c.Email != "" {
		in["email"] = c.Email
	}
	var made org
	answer, err := api.call(ctx, http.MethodPost, "/admin/v1/orgs", in, &made)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	fmt.Fprintf(s.Out, "%s was created. Next: sluice key create %[1]s\n", made.ID)
	return nil
}

type orgListCmd struct {
	adminFlags
	outputFlags
}

func (c *orgListCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var list struct{ Data []org }
	answer, err := api.call(ctx, http.MethodGet, "/admin/v1/orgs", nil, &list)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	rows := [][]string{orgTitles}
	for i := range list.Data {
		rows = append(rows, list.Data[i].row())
	}
	return printTable(s.Out, rows...)
}

type orgShowCmd struct {
	adminFlags
	outputFlags
	Org string `arg:"" help:"Id of the org."`
}

func (c *orgShowCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var found org
	answer, err := api.call(ctx, http.MethodGet, "/admin/v1/orgs/"+url.PathEscape(c.Org), nil, &found)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	return printTable(s.Out, orgTitles, found.row())
}

type orgDeleteCmd struct {
	adminFlags
	Org string `arg:"" help:"Id of the org."`
	Yes bool   `short:"y" help:"Don't ask."`
}

func (c *orgDeleteCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if err := confirmed(s, c.Yes, fmt.Sprintf("Delete %s, with its keys, endpoints and providers?", c.Org)); err != nil {
		return err
	}
	if _, err := api.call(ctx, http.MethodDelete, "/admin/v1/orgs/"+url.PathEscape(c.Org), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s was deleted.\n", c.Org)
	return nil
}
