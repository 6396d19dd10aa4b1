package main

import (
	"context"
	"fmt"
	"net/http"
)

// laneCmd looks after lanes, by the admin API.
type laneCmd struct {
	Skip laneSkipCmd `cmd:"" help:"Have a lane go on without what the log has lost."`
}

type laneSkipCmd struct {
	adminFlags
	Lane int  `arg:"" placeholder:"LANE" help:"Number of the lane, as /readyz and the log of sluice serve name it."`
	Yes  bool `help:"Don't ask."`
}

// Help is shown by sluice lane skip --help.
func (laneSkipCmd) Help() string {
	return `A lane whose place is gone from the log, because it was down for longer than that keeps its records, or
because a topic was trimmed or lost, stops: /readyz is 503 and names it. Nothing is passed over in silence. This
command says that it may go on from what is left. It says so in the log; the lane sees it when it next tries,
within half a minute, logs what it skipped ("lane skipped what is lost", "fan-out skipped what is lost"), and
counts it in sluice_lane_skipped_total and sluice_fanout_skipped_total. A lane that has lost nothing isn't
changed.

Example:

    sluice lane skip 3`
}

func (c *laneSkipCmd) Run(ctx context.Context, s std) error {
	if err := confirmed(s, c.Yes, fmt.Sprintf("Lane %d goes on without what the log doesn't have any more.", c.Lane)); err != nil {
		return err
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	if _, err := api.call(ctx, http.MethodPost, fmt.Sprintf("/admin/v1/lanes/%d/skip", c.Lane), nil, nil); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "Lane %d goes on within half a minute, if it had stopped. Its log says what it skipped.\n", c.Lane)
	return nil
}
