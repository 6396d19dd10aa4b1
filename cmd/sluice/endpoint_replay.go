package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// replayed is a replay, as the API gives it.
type replayed struct {
	ReplayID   string
	Status     string
	From, To   string
	Events     []string
	FailedOnly bool
	CreatedAt  time.Time
	Progress   struct{ Done, Total, Delivered, Failed, Expired int64 }
}

var replayTitles = []string{"ID", "STATUS", "DONE", "DELIVERED", "FAILED", "EXPIRED", "FROM", "TO", "EVENTS", "CREATED"}

func (r *replayed) row() []string {
	p := &r.Progress
	what := strings.Join(r.Events, ",")
	if r.FailedOnly {
		what = strings.TrimSpace(what + " failed only")
	}
	return []string{r.ReplayID, r.Status, r.done(), thousands(p.Delivered), thousands(p.Failed), thousands(p.Expired), r.From, r.To, what, shortTime(r.CreatedAt)}
}

func (r *replayed) done() string {
	switch p := &r.Progress; {
	case p.Total > 0:
		return fmt.Sprintf("%d%%", 100*p.Done/p.Total)
	case r.ended():
		return "100%"
	}
	return "0%"
}

func (r *replayed) ended() bool { return r.Status == "completed" || r.Status == "cancelled" }

// line says how far it is, in words.
func (r *replayed) line() string {
	p := &r.Progress
	text := fmt.Sprintf("%s · %s · %s delivered", r.Status, r.done(), thousands(p.Delivered))
	if p.Failed > 0 {
		text += fmt.Sprintf(" · %s failed, and are tried again on the schedule", thousands(p.Failed))
	}
	if p.Expired > 0 {
		text += fmt.Sprintf(" · %s are older than seven days, and were passed over", thousands(p.Expired))
	}
	return text
}

func replayPath(endpoint, replay string) string {
	return webhookPath(endpoint) + "/replays/" + url.PathEscape(replay)
}

type endpointReplayCmd struct {
	oneEndpoint
	outputFlags
	From       string   `required:"" placeholder:"TIME" help:"Events logged since then: a time or a date (2026-11-22T03:10:00Z, 2026-11-22), or how long ago (90m, 24h)."`
	To         string   `placeholder:"TIME" help:"Events logged before then; of a date the whole day. Default: now."`
	Events     []string `placeholder:"PATTERN" help:"Types that are sent. Default: the endpoint's."`
	FailedOnly bool     `help:"Only events whose deliveries ran out of attempts."`
	Detach     bool     `help:"Don't wait for its end."`
}

func (c *endpointReplayCmd) Run(ctx context.Context, s std) error {
	in := map[string]any{"from": whenever(c.From), "failedOnly": c.FailedOnly}
	if c.To != "" {
		in["to"] = whenever(c.To)
	}
	if len(c.Events) > 0 {
		in["events"] = c.Events
	}
	var r replayed
	answer, err := c.client().call(ctx, http.MethodPost, webhookPath(c.ID)+"/replay", in, &r)
	if err != nil {
		return err
	}
	if !c.JSON {
		fmt.Fprintf(s.Err, "%s begins; sluice endpoint cancel-replay %s %[1]s ends it.\n", r.ReplayID, c.ID)
	}
	if !c.Detach {
		if answer, err = c.follow(ctx, s.Err, &r, answer); err != nil {
			return err
		}
	}
	if c.JSON {
		return printRaw(s.Out, answer)
	}
	fmt.Fprintf(s.Out, "%s: %s\n", r.ReplayID, r.line())
	return nil
}

// whenever turns how long ago into when.
func whenever(text string) string {
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago.Abs()).UTC().Format(time.RFC3339Nano)
	}
	return text
}

// follow waits for the replay's end, and tells a terminal meanwhile how far it is.
func (c *endpointReplayCmd) follow(ctx context.Context, to io.Writer, r *replayed, answer []byte) ([]byte, error) {
	terminal := isTerminal(to)
	for !r.ended() {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fmt.Errorf("interrupted: %s goes on", r.ReplayID)
		}
		var err error
		if answer, err = c.client().call(ctx, http.MethodGet, replayPath(c.ID, r.ReplayID), nil, r); err != nil {
			return nil, fmt.Errorf("%s may go on: %w", r.ReplayID, err)
		}
		if terminal {
			fmt.Fprintf(to, "\r\x1b[K%s", r.line())
		}
	}
	if terminal {
		fmt.Fprint(to, "\r\x1b[K")
	}
	return answer, nil
}

type endpointReplaysCmd struct {
	oneEndpoint
	outputFlags
}

func (c *endpointReplaysCmd) Run(ctx context.Context, s std) error {
	var list struct{ Data []replayed }
	answer, err := c.client().call(ctx, http.MethodGet, webhookPath(c.ID)+"/replays", nil, &list)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	rows := [][]string{replayTitles}
	for i := range list.Data {
		rows = append(rows, list.Data[i].row())
	}
	return printTable(s.Out, rows...)
}

type endpointCancelReplayCmd struct {
	oneEndpoint
	Replay string `arg:"" name:"replay" help:"Id of the replay (rpl_…)."`
	outputFlags
}

func (c *endpointCancelReplayCmd) Run(ctx context.Context, s std) error {
	answer, err := c.client().call(ctx, http.MethodPost, replayPath(c.ID, c.Replay)+"/cancel", nil, nil)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	}
	fmt.Fprintf(s.Out, "%s was cancelled: what is under way ends, and nothing more is sent.\n", c.Replay)
	return nil
}
