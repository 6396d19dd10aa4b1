package main

import (
	"context"
	"fmt"
)

// tailCmd prints a stream, and keeps its place over reconnects (stream_reader.go).
type tailCmd struct {
	apiFlags
	Channels []string `default:"*" placeholder:"PATTERN" help:"Types to print; * stands for any run of characters, as in rfq.*,quote.received. Default: everything that the key may see."`
	Corridor []string `placeholder:"NAME" help:"Only events of these corridors, and events that have none."`
	Cursor   string   `placeholder:"CURSOR" help:"Begin behind this place: the cursor of an event that was printed before. Default: now."`
}

// Help is shown by sluice tail --help.
func (tailCmd) Help() string {
	return `Runs until Ctrl-C. Standard output gets the events and nothing else; what happens to the connection
is said on standard error. A connection that was lost is made again, from the last event printed.

Examples:

    sluice tail --key sk_test_…
    sluice tail --key sk_test_… --channels 'rfq.*,settlement.*' | jq .rfq.id`
}

func (c *tailCmd) Run(ctx context.Context, s std) error {
	r := streamReader{
		api: &c.apiFlags, channels: c.Channels, corridors: c.Corridor, cursor: c.Cursor, notices: s.Err,
		event: func(_ *message, text []byte) error {
			if _, err := fmt.Fprintf(s.Out, "%s\n", text); err != nil {
				return fmt.Errorf("write event: %w", err)
			}
			return nil
		},
	}
	return r.run(ctx)
}
