package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sluice/pkg/event"
)

// publishCmd sends events, in batches that are answered when they are durable.
//
//	--type, --data ─┐
//	file, stdin ────┴─► ids ─► batches ─► POST /v1/events ─► ids on stdout
//	                                          ▲      │ 503
//	                                          └──────┘ the same ids again
type publishCmd struct {
	apiFlags
	Type     string   `placeholder:"TYPE" help:"Type of the one event to publish, such as rfq.created."`
	Data     string   `placeholder:"JSON" help:"Its data: a JSON object of at most 256 KiB."`
	Audience []string `placeholder:"ORG" help:"Who may see it: org ids with commas between, or '*' for every org. Default: the key's own org. Others than that need a key with scope broadcast."`
	Corridor string   `placeholder:"NAME" help:"Its corridor, which subscribers can choose by."`
	File     string   `arg:"" optional:"" placeholder:"FILE" help:"Publish what the file holds, one event (as in the body of POST /v1/events) a line; - is standard input."`
}

// Help is shown by sluice publish --help.
func (publishCmd) Help() string {
	return `Prints the id of every event, once it is durable. Events without an id are given one first, so that
a batch that is sent again, because the log didn't answer, is never published twice. On a line of a
file that id follows from the file's name, the line's number and its text: after a failure publish the
same file again, within 24 hours, and what was published before isn't published a second time. Where
the same line of the same file shall be a new event, give it an id of its own or use standard input.

Examples:

    sluice publish --key sk_test_… --type rfq.created --data '{"rfq":{"id":"rfq_1"}}'
    sluice publish --key sk_test_… events.ndjson
    generate | sluice publish --key sk_test_… -`
}

const (
	batchEvents = 1000    // the API's limit
	batchBytes  = 3 << 20 // below the API's 4 MiB
	publishFor  = 30 * time.Second
)

// Validate wants one event or a file of them: flags beside a file would be
// without effect, and --audience one that nobody may miss.
func (c *publishCmd) Validate() error {
	if err := c.apiFlags.Validate(); err != nil {
		return err
	}
	switch one := c.Data != "" || len(c.Audience) > 0 || c.Corridor != ""; {
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
	p := publisher{ctx: ctx, api: c.client(), out: s.Out, id: func([]byte) string { return event.NewID(time.Now()) }}
	if c.Type != "" {
		ev, err := c.event()
		if err != nil {
			return err
		}
		if err := p.add(ev, nil); err != nil {
			return err
		}
		return p.flush()
	}
	if c.File == "-" {
		return p.addLines(s.In)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	name := filepath.Base(c.File)
	p.id = func(text []byte) string { return lineID(name, p.line, text) }
	if err := p.addLines(f); err != nil {
		return fmt.Errorf("%w; publish %s again to go on, nothing comes twice", err, c.File)
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
func (c *publishCmd) event() (map[string]json.RawMessage, error) {
	if !json.Valid([]byte(c.Data)) {
		return nil, fmt.Errorf("--data %q is no JSON: give an object, as in '{\"rfq\":{\"id\":\"rfq_1\"}}'", c.Data)
	}
	ev := map[string]json.RawMessage{"data": json.RawMessage(c.Data), "type": quoted(c.Type)}
	switch {
	case len(c.Audience) == 1 && c.Audience[0] == "*":
		ev["audience"] = quoted("*")
	case len(c.Audience) > 0:
		ev["audience"], _ = json.Marshal(c.Audience)
	}
	if c.Corridor != "" {
		ev["corridor"] = quoted(c.Corridor)
	}
	return ev, nil
}

func quoted(s string) json.RawMessage {
	text, _ := json.Marshal(s)
	return text
}

// publisher gathers events into batches.
type publisher struct {
	ctx   context.Context
	api   *client
	out   io.Writer
	id    func(text []byte) string // of an event without one
	line  int                      // that is being read
	batch bytes.Buffer
	count int
}

func (p *publisher) addLines(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, batchBytes)
	for lines.Scan() {
		p.line++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var ev map[string]json.RawMessage
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			return errors.Join(p.flush(), fmt.Errorf("line %d is no JSON object: %w; the lines before it were published", p.line, err))
		}
		if err := p.add(ev, lines.Bytes()); err != nil {
			return err
		}
	}
	return errors.Join(p.flush(), lines.Err())
}

// add puts an event into the batch; text is how it was written.
func (p *publisher) add(ev map[string]json.RawMessage, text []byte) error {
	if _, ok := ev["id"]; !ok {
		ev["id"] = quoted(p.id(text))
	}
	line, err := json.Marshal(ev)
	if err != nil {
		return err
	}
	if p.count == batchEvents || p.batch.Len()+len(line) > batchBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.batch.Write(append(line, '\n'))
	p.count++
	return nil
}

// flush publishes the batch, again and again while the log doesn't answer. It may
// have been logged all the same; its ids see to it that it isn't again.
func (p *publisher) flush() error {
	if p.count == 0 {
		return nil
	}
	var answer struct{ IDs []string }
	for began := time.Now(); ; {
		text, err := p.api.send(p.ctx, http.MethodPost, "/v1/events", "application/x-ndjson", p.batch.Bytes())
		var refused *refusedError
		if errors.As(err, &refused) && refused.status == http.StatusServiceUnavailable && time.Since(began) < publishFor {
			select {
			case <-time.After(max(refused.retryAfter, time.Second)):
				continue
			case <-p.ctx.Done():
			}
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			return fmt.Errorf("%s answered what is no list of ids: does --url name a sluice?", p.api.base)
		}
		break
	}
	p.batch.Reset()
	p.count = 0
	for _, id := range answer.IDs {
		fmt.Fprintln(p.out, id)
	}
	return nil
}
