package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/dispatcher/attempt"
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
)

// listenCmd brings webhooks to a developer's machine: what is on the stream goes to
// a URL of theirs, made and signed as the dispatcher does it.
//
//	stream ─► event ─► queue ─► attempt.Build ─► POST ─► a line
//	(stream_reader.go)  128         ▲                │
//	                                └── --retry ◄────┘ failed
//
// The sending is in listen_forward.go.
type listenCmd struct {
	apiFlags
	ForwardTo   string   `name:"forward-to" placeholder:"URL" help:"Where to POST the webhooks, as in localhost:3000/webhook; http where it doesn't say https."`
	Channels    []string `default:"*" placeholder:"PATTERN" help:"Types to forward; * stands for any run of characters, as in settlement.*,rfq.created. Default: everything that the key may see."`
	Cursor      string   `placeholder:"CURSOR" help:"Begin behind this place, as an earlier run printed it. Default: now."`
	Secret      string   `placeholder:"TEXT" help:"Sign with this secret, of 8 to 256 printable characters. Default: one that follows from the key."`
	PrintSecret bool     `name:"print-secret" help:"Print the secret, and do nothing else."`
	Retry       bool     `name:"retry" help:"Try again what failed, as the service does: after 5 s, 30 s, 5 min and 1 h."`
}

// Help is shown by sluice listen --help.
func (listenCmd) Help() string {
	return `For writing a webhook's receiver: events that are published come to your own machine, as the requests that an
endpoint would get: the same body to the byte, the same headers, a signature that your code verifies. Nothing is
registered, and real endpoints get theirs all the same.

The secret is printed at the start, and is the same whenever you listen with the same key. In the place of an
endpoint's id stands ` + listenEndpoint + `. Requests go out one after another, in the order of the events, each for 30 s
at most; an endpoint gets several at once, in any order. A member of data whose name is cursor is missing.

Standard output gets a line for each attempt. Runs until Ctrl-C, which says how to go on; a connection that was
lost is made again from where it ended.

Examples:

    sluice listen --key sk_test_… --forward-to localhost:3000/webhook
    sluice listen --forward-to localhost:3000/webhook --channels 'settlement.*' --retry
    WEBHOOK_SECRET=$(sluice listen --print-secret) node receiver.mjs`
}

// listenEndpoint stands where an endpoint's id stands.
const listenEndpoint = "wh_listen"

// Validate stops what can't be forwarded.
func (c *listenCmd) Validate() error {
	if err := c.apiFlags.Validate(); err != nil {
		return err
	}
	if c.Secret != "" {
		if text, found := strings.CutPrefix(c.Secret, secretPrefix); len(c.Secret) < 8 || len(c.Secret) > 256 {
			return errors.New("--secret can't sign: give 8 to 256 characters, as for an endpoint")
		} else if _, err := base64.StdEncoding.DecodeString(text); found && err != nil {
			return errors.New("--secret begins with whsec_ and must go on in base64, with its padding")
		}
	}
	if c.PrintSecret {
		return nil
	}
	if c.ForwardTo == "" {
		return errors.New("--forward-to is missing: give the URL of your receiver, as in localhost:3000/webhook")
	}
	if !strings.Contains(c.ForwardTo, "://") {
		c.ForwardTo = "http://" + c.ForwardTo
	}
	if err := attempt.NewGuard(true, everywhere).CheckURL(c.ForwardTo); err != nil {
		return fmt.Errorf("--forward-to %q: %w", c.ForwardTo, err)
	}
	return nil
}

// everywhere is every address: the developer says where to.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

const secretPrefix = "whsec_"

// secret gives what signs. The one that follows from the key tells nothing of it.
func (c *listenCmd) secret() string {
	if c.Secret != "" {
		return c.Secret
	}
	mac := hmac.New(sha256.New, []byte(c.Key))
	mac.Write([]byte("sluice listen"))
	return secretPrefix + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (c *listenCmd) Run(ctx context.Context, s std) error {
	if c.PrintSecret {
		_, err := fmt.Fprintln(s.Out, c.secret())
		return err
	}
	f := newForwarder(c, s)
	defer f.sender.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan *forwarded, maxForwarded)
	begun := false
	r := streamReader{
		api: &c.apiFlags, channels: c.Channels, cursor: c.Cursor, notices: s.Err,
		begun: func(environment string) {
			if begun {
				fmt.Fprintln(s.Err, "sluice: connected again")
			} else {
				c.welcome(s, environment)
			}
			begun = true
		},
		event: func(m *message, text []byte) error {
			ev, err := streamedEvent(text)
			if err != nil {
				return err
			}
			select {
			case events <- &forwarded{event: ev, cursor: m.Cursor}:
			case <-ctx.Done():
			}
			return nil
		},
	}
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- r.run(ctx)
	}()
	err := f.run(ctx, events, ended)
	cancel()
	for range ended { // until it has
	}
	if begun {
		f.farewell(s.Err)
	}
	return err
}

func (c *listenCmd) welcome(s std, environment string) {
	fmt.Fprintf(s.Err, "Events of the %s that match %s go to %s, signed with this secret:\n\n  %s\n\nCtrl-C ends.\n\n",
		environment, strings.Join(c.Channels, ", "), c.ForwardTo, c.secret())
}

// listenWebhook makes webhooks as they are of the stream beside them.
func listenWebhook() *dialect.Webhook {
	for _, d := range all.Dialects {
		if d.Stream != nil && d.Webhook != nil && slices.Contains(d.Stream.Paths, streamPath) {
			return d.Webhook
		}
	}
	panic("no dialect has a stream and webhooks at " + streamPath)
}

// streamedEvent makes an event of its message on the stream. Members of data that
// the message puts its own in the place of aren't known.
func streamedEvent(text []byte) (*event.Event, error) {
	wrong := func(what string, err error) (*event.Event, error) {
		return nil, fmt.Errorf("not an event of sluice's: %s: %w", what, err)
	}
	ev := new(event.Event)
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	if _, err := dec.ReadToken(); err != nil {
		return wrong("message", err)
	}
	data := []byte{'{'}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadValue()
		if err != nil {
			return wrong("name", err)
		}
		name = name.Clone()
		value, err := dec.ReadValue()
		if err != nil {
			return wrong("value", err)
		}
		said := string(bytes.Trim(value, `"`)) // of ours nothing is escaped
		switch string(name) {
		case `"type"`:
			ev.Type = said
		case `"id"`:
			ev.ID = said
		case `"timestamp"`:
			if ev.Timestamp, err = time.Parse(time.RFC3339, said); err != nil {
				return wrong("timestamp", err)
			}
		case `"cursor"`:
		default:
			if len(data) > 1 {
				data = append(data, ',')
			}
			data = append(append(append(data, name...), ':'), value...)
		}
	}
	var err error
	if ev.Data, ev.Members, err = event.Canonical(append(data, '}')); err != nil {
		return wrong("data", err)
	}
	return ev, nil
}
