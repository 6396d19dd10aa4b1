package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"sluice/dispatcher/attempt"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// What waits, in events of 256 KiB at most: to be sent, and to be sent again.
const (
	maxForwarded = 128
	maxRetried   = 128
)

// forwarded is an event on its way.
type forwarded struct {
	event    *event.Event
	cursor   string
	attempts int       // made so far
	due      time.Time // of the next
}

// forwarder sends events as webhooks, one at a time.
type forwarder struct {
	sender   *attempt.HTTPSender
	hook     *dialect.Webhook
	endpoint endpoint.Endpoint
	retry    bool
	out      io.Writer
	colours  bool
	request  attempt.Request

	cursor            string // of the last event whose first attempt ended
	delivered, failed int    // events
	waiting           []*forwarded
}

func newForwarder(c *listenCmd, s std) *forwarder {
	return &forwarder{
		sender:   attempt.NewHTTPSender(attempt.Config{Version: version(), AllowHTTP: true, AllowPrivate: everywhere}),
		hook:     listenWebhook(),
		endpoint: endpoint.Endpoint{ID: listenEndpoint, URL: c.ForwardTo, Secret: endpoint.Secret(c.secret())},
		retry:    c.Retry,
		out:      s.Out, colours: isTerminal(s.Out),
	}
}

// run sends until ctx ends, or the stream does, whose last word it gives.
func (f *forwarder) run(ctx context.Context, events <-chan *forwarded, ended <-chan error) error {
	for {
		var due <-chan time.Time
		next := f.soonest()
		if next >= 0 {
			due = time.After(time.Until(f.waiting[next].due))
		}
		var one *forwarded
		select {
		case one = <-events:
		case <-due:
			one = f.waiting[next]
			f.waiting = slices.Delete(f.waiting, next, next+1)
		case err := <-ended:
			return err
		}
		if err := f.send(ctx, one); err != nil {
			return err
		}
	}
}

// soonest gives the place of what is due first; -1: nothing waits.
func (f *forwarder) soonest() int {
	first := -1
	for i, w := range f.waiting {
		if first < 0 || w.due.Before(f.waiting[first].due) {
			first = i
		}
	}
	return first
}

// send makes one attempt. What the receiver makes of it is never an error.
func (f *forwarder) send(ctx context.Context, one *forwarded) error {
	d := delivery.New(one.event, f.endpoint.ID, 0)
	d.Event.Data = one.event.Data // however large it is
	now := time.Now()
	attempt.Build(&f.request, f.hook, d, &f.endpoint, one.attempts+1, now)
	o, err := f.sender.Send(ctx, &f.request)
	switch {
	case ctx.Err() != nil:
		return nil // the stream ends, too
	case err != nil:
		return err
	}
	if one.attempts++; one.attempts == 1 {
		f.cursor = one.cursor
	}
	_, err = io.WriteString(f.out, f.line(now, one, &o, f.next(one, &o)))
	return err
}

// next says what becomes of an event after an attempt.
func (f *forwarder) next(one *forwarded, o *delivery.Outcome) string {
	switch {
	case o.OK():
		f.delivered++
		return ""
	case o.Status == http.StatusGone:
		f.failed++
		return "this would disable an endpoint"
	case !f.retry:
		f.failed++
		return ""
	case one.attempts == len(f.hook.Schedule):
		f.failed++
		return "this was the last attempt"
	case len(f.waiting) == maxRetried:
		f.failed++
		return fmt.Sprintf("not again: %d others wait", maxRetried)
	}
	delay := f.hook.Schedule[one.attempts]
	one.due = time.Now().Add(delay)
	f.waiting = append(f.waiting, one)
	return "again in " + delay.String()
}

// line is what is printed of an attempt.
func (f *forwarder) line(at time.Time, one *forwarded, o *delivery.Outcome, next string) string {
	said, colour := strings.Join(strings.Fields(o.Detail), " "), red
	switch {
	case o.OK():
		said, colour = strings.TrimSpace(fmt.Sprintf("%d %s", o.Status, http.StatusText(o.Status))), green
	case o.Class != delivery.HTTPError:
		said = string(o.Class) + ": " + said
	}
	if f.colours {
		said = colour + said + reset
	}
	line := fmt.Sprintf("%s  %-24s  %s  %7s  %s", at.Format("15:04:05.000"), one.event.Type, one.event.ID, shortDuration(o.Took), said)
	if one.attempts > 1 {
		line += fmt.Sprintf(" · attempt %d", one.attempts)
	}
	if next != "" {
		line += " · " + next
	}
	return line + "\n"
}

// farewell says how it went, and how to go on.
func (f *forwarder) farewell(w io.Writer) {
	fmt.Fprintf(w, "\n%d delivered, %d failed", f.delivered, f.failed)
	if n := len(f.waiting); n > 0 {
		fmt.Fprintf(w, ", %d won't be tried again now", n)
	}
	if f.cursor != "" {
		fmt.Fprintf(w, ". To go on from here: --cursor %s", f.cursor)
	}
	fmt.Fprintln(w)
}
