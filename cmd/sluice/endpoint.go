package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// endpointCmd looks after webhook endpoints, by the public API.
type endpointCmd struct {
	Create endpointCreateCmd `cmd:"" help:"Register an endpoint."`
	List   endpointListCmd   `cmd:"" help:"List endpoints."`
	Show   endpointShowCmd   `cmd:"" help:"Show an endpoint."`
	Test   endpointTestCmd   `cmd:"" help:"Send an endpoint a test event."`
	Enable endpointEnableCmd `cmd:"" help:"Enable a disabled endpoint; what it missed is delivered."`
	Rotate endpointRotateCmd `cmd:"" name:"rotate-secret" help:"Give an endpoint a new secret; the one it had goes on signing for a while."`

	Deliveries   endpointDeliveriesCmd   `cmd:"" help:"List what became of deliveries to an endpoint."`
	Retry        endpointRetryCmd        `cmd:"" help:"Make one more attempt of deliveries, now: of some, or of all dead letters."`
	Replay       endpointReplayCmd       `cmd:"" help:"Send events of the last seven days to an endpoint once more."`
	Replays      endpointReplaysCmd      `cmd:"" help:"List an endpoint's replays."`
	CancelReplay endpointCancelReplayCmd `cmd:"" help:"End a replay."`

	Delete endpointDeleteCmd `cmd:"" help:"Delete an endpoint, with what it is owed."`
}

// webhook is an endpoint, as the API gives it; the secret only when it is made.
type webhook struct {
	ID           string
	URL          string
	Events       []string
	Status       string
	Description  string
	Secret       string
	Reason       string
	CreatedAt    time.Time
	OverlapUntil time.Time
}

func (w *webhook) row() []string {
	return []string{w.ID, w.Status, strings.Join(w.Events, ","), w.URL, shortTime(w.CreatedAt)}
}

var webhookTitles = []string{"ID", "STATUS", "EVENTS", "URL", "CREATED"}

const webhooksPath = "/v1/webhooks"

func webhookPath(id string) string { return webhooksPath + "/" + url.PathEscape(id) }

type endpointCreateCmd struct {
	apiFlags
	outputFlags
	Target      string   `arg:"" name:"target" help:"URL that events are POSTed to: https, or http where the operator allows it."`
	Events      []string `default:"*" placeholder:"PATTERN" help:"Types that it gets; * stands for any run of characters, as in settlement.*,audit.recorded. Default: every type."`
	Secret      string   `placeholder:"TEXT" help:"Secret that signs, of 8 to 256 printable characters. Default: one is made."`
	Description string   `placeholder:"TEXT" help:"Description, for people."`
}

func (c *endpointCreateCmd) Run(ctx context.Context, s std) error {
	in := map[string]any{"url": c.Target, "events": c.Events}
	if c.Secret != "" {
		in["secret"] = c.Secret
	}
	if c.Description != "" {
		in["description"] = c.Description
	}
	var made webhook
	answer, err := c.client().call(ctx, http.MethodPost, webhooksPath, in, &made)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	fmt.Fprintf(s.Out, "%s was created.\nIts secret, shown this once: %s\nTry it: sluice endpoint test %[1]s\n", made.ID, made.Secret)
	return nil
}

type endpointListCmd struct {
	apiFlags
	outputFlags
}

func (c *endpointListCmd) Run(ctx context.Context, s std) error {
	rows := [][]string{webhookTitles}
	for cursor := ""; ; {
		var page struct {
			Data       []webhook
			NextCursor *string
		}
		path := webhooksPath
		if cursor != "" {
			path += "?cursor=" + url.QueryEscape(cursor)
		}
		answer, err := c.client().call(ctx, http.MethodGet, path, nil, &page)
		if err != nil {
			return err
		}
		if c.JSON { // a page a line
			if err := printRaw(s.Out, answer); err != nil {
				return err
			}
		}
		for i := range page.Data {
			rows = append(rows, page.Data[i].row())
		}
		if page.NextCursor == nil || *page.NextCursor == "" {
			break
		}
		cursor = *page.NextCursor
	}
	if c.JSON {
		return nil
	}
	return printTable(s.Out, rows...)
}

// oneEndpoint is what the commands about one endpoint share.
type oneEndpoint struct {
	apiFlags
	ID string `arg:"" name:"id" help:"Id of the endpoint (wh_…)."`
}

type endpointShowCmd struct {
	oneEndpoint
	outputFlags
}

func (c *endpointShowCmd) Run(ctx context.Context, s std) error {
	var w webhook
	answer, err := c.client().call(ctx, http.MethodGet, webhookPath(c.ID), nil, &w)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	if err := printTable(s.Out, webhookTitles, w.row()); err != nil {
		return err
	}
	if w.Reason != "" {
		fmt.Fprintf(s.Out, "%s: %s\n", w.Status, w.Reason)
	}
	return nil
}

type endpointTestCmd struct {
	oneEndpoint
	outputFlags
}

func (c *endpointTestCmd) Run(ctx context.Context, s std) error {
	answer, err := c.client().call(ctx, http.MethodPost, webhookPath(c.ID)+"/test", nil, nil)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	fmt.Fprintf(s.Out, "A test event is on its way to %s.\n", c.ID)
	return nil
}

type endpointEnableCmd struct {
	oneEndpoint
	outputFlags
	SkipMissed bool `help:"Don't deliver what was missed while it was disabled."`
}

func (c *endpointEnableCmd) Run(ctx context.Context, s std) error {
	var in any
	if c.SkipMissed {
		in = map[string]string{"replay": "none"}
	}
	answer, err := c.client().call(ctx, http.MethodPost, webhookPath(c.ID)+"/enable", in, nil)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	fmt.Fprintf(s.Out, "%s is active.\n", c.ID)
	return nil
}

type endpointRotateCmd struct {
	oneEndpoint
	outputFlags
	Overlap time.Duration `default:"24h" help:"How long the secret of before goes on signing beside the new one, 7 days at most; 0s if it leaked."`
}

func (c *endpointRotateCmd) Run(ctx context.Context, s std) error {
	var made webhook
	in := map[string]int64{"overlapSeconds": int64(c.Overlap / time.Second)}
	answer, err := c.client().call(ctx, http.MethodPost, webhookPath(c.ID)+"/rotate-secret", in, &made)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	fmt.Fprintf(s.Out, "%s has a new secret, shown this once: %s\n", c.ID, made.Secret)
	if made.OverlapUntil.IsZero() {
		fmt.Fprintln(s.Out, "Nothing is signed with another any more.")
	} else {
		fmt.Fprintf(s.Out, "Until %s webhook-signature has a signature of each secret; other headers are signed with the old one.\n", shortTime(made.OverlapUntil))
	}
	return nil
}

type endpointDeleteCmd struct {
	oneEndpoint
	Yes bool `short:"y" help:"Don't ask."`
}

func (c *endpointDeleteCmd) Run(ctx context.Context, s std) error {
	if err := confirmed(s, c.Yes, fmt.Sprintf("Delete %s, with what it is owed?", c.ID)); err != nil {
		return err
	}
	if _, err := c.client().call(ctx, http.MethodDelete, webhookPath(c.ID), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%s was deleted.\n", c.ID)
	return nil
}
