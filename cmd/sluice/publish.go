package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sluice/pkg/event"
)

// publishCmd sends events, in batches that are answered when they are durable.
//
//	--type, --data ─┐
//	file, stdin ────┴─► ids ─► batches ─► POST /v1/events ─► ids on stdout, progress on a terminal
//	                              ▲           │ 503, 429, no answer: the same ids again
//	                              └───────────┤
//	                                          └ a line is refused: told, and left out
//
// The batches are in publish_lines.go, what is seen of them in publish_progress.go.
type publishCmd struct {
	apiFlags
	Type     string   `placeholder:"TYPE" help:"Type of the one event to publish, such as rfq.created."`
	Data     string   `placeholder:"JSON" help:"Its data: a JSON object of at most 256 KiB."`
	Audience []string `placeholder:"ORG" help:"Who may see it: org ids with commas between, or '*' for every org. Default: the key's own org. Others than that need a key with scope broadcast."`
	Corridor string   `placeholder:"NAME" help:"Its corridor, which subscribers can choose by."`
	From     int      `default:"1" placeholder:"LINE" help:"Begin the file at this line. Default: ${default}."`
	File     string   `arg:"" optional:"" placeholder:"FILE" help:"Publish what the file holds, one event (as in the body of POST /v1/events) a line; - is standard input."`
}

// Help is shown by sluice publish --help.
func (publishCmd) Help() string {
	return `Prints the id of every event, once it is durable; where standard output is a terminal, the events of a
file are only counted. While sluice can't take any more (503, 429), or can't be reached once it could, the same
is sent again for two minutes.

Events without an id are given one first, so that a batch that is sent again is never published twice. On
a line of a file that id follows from the file's name, the line's number and its text: after a failure, or a
kill, publish the same file again, and what was published before isn't published a second time. That is so for
24 hours, and as long as sluice knows the ids (--idempotency-entries of sluice serve, 1,000,000): with a longer
file go on with --from, at the line that the error names. Where the same line of the same file shall be a new
event, give it an id of its own. Standard input has no name: there only events with ids of their own are known.

A line that is no event, or that sluice refuses, is told by its number and left out; the others are published, and
the exit code is 1. Mend it where it is: a line that moves gets another id. After 100 of them nothing more is sent.

Examples:

    sluice publish --key sk_test_… --type rfq.created --data '{"rfq":{"id":"rfq_1"}}'
    sluice publish --key sk_test_… events.ndjson
    generate | sluice publish --key sk_test_… -`
}

// Validate wants one event or a file of them: flags beside a file would be
// without effect, and --audience one that nobody may miss.
func (c *publishCmd) Validate() error {
	if err := c.apiFlags.Validate(); err != nil {
		return err
	}
	switch one := c.Data != "" || len(c.Audience) > 0 || c.Corridor != ""; {
	case c.From < 1:
		return fmt.Errorf("--from %d is no line: the first is 1", c.From)
	case c.From > 1 && c.File == "":
		return errors.New("--from is for a file")
	case c.File != "" && (c.Type != "" || one):
		return errors.New("a file's events say all of themselves: give it alone, or --type and --data for one event")
	case c.File == "" && c.Type == "" && one:
		return errors.New("--type is missing: give --type and --data for one event")
	case c.File == "" && c.Type == "":
		return errors.New("nothing to publish: give --type and --data, or a file of events, or - for standard input")
	}
	return nil
}

func (c *publishCmd) Run(ctx context.Context, s std) error {
	p := publisher{ctx: ctx, api: c.client(), ids: s.Out, from: c.From, id: func(int, []byte) string { return event.NewID(time.Now()) }}
	p.progress.to = s.Err
	if c.Type != "" {
		text, err := c.event()
		if err != nil {
			return err
		}
		return p.one(text)
	}
	p.progress.terminal = isTerminal(s.Err)
	if isTerminal(s.Out) {
		p.ids = nil
	}
	if c.File == "-" {
		return p.lines(s.In)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		p.progress.size = info.Size()
	}
	name := filepath.Base(c.File)
	p.id = func(line int, text []byte) string { return lineID(name, line, text) }
	switch err := p.lines(f); {
	case errors.Is(err, errShort):
		return err
	case errors.Is(err, errBadLines):
		return fmt.Errorf("%w: mend them where they are, and publish %s again: nothing comes twice", err, c.File)
	case err != nil:
		return fmt.Errorf("%w: publish %s again to go on, nothing comes twice; --from %d begins where this ended", err, c.File, p.through+1)
	}
	return nil
}

// lineID is the id of a file's event that has none: the same whenever the file is
// published.
func lineID(file string, line int, text []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%d\x00", file, line)
	h.Write(bytes.TrimSpace(text))
	return "line_" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:18])
}

// event makes the one event that the flags describe.
func (c *publishCmd) event() ([]byte, error) {
	if !json.Valid([]byte(c.Data)) {
		return nil, fmt.Errorf("--data %q is no JSON: give an object, as in '{\"rfq\":{\"id\":\"rfq_1\"}}'", c.Data)
	}
	ev := map[string]any{"data": json.RawMessage(c.Data), "type": c.Type}
	switch {
	case len(c.Audience) == 1 && c.Audience[0] == "*":
		ev["audience"] = "*"
	case len(c.Audience) > 0:
		ev["audience"] = c.Audience
	}
	if c.Corridor != "" {
		ev["corridor"] = c.Corridor
	}
	return json.Marshal(ev)
}
