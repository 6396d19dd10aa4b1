package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// delivered is a delivery, as the API lists it.
type delivered struct {
	ID            string
	EventID       string
	EventType     string
	Status        string
	Attempts      int
	Outcome       string
	Reason        string
	HTTPStatus    *int
	CreatedAt     time.Time
	NextAttemptAt *time.Time
}

func (d *delivered) row() []string {
	outcome, next := cmp.Or(d.Outcome, d.Reason), ""                                     // without an attempt, why there was none
	if d.HTTPStatus != nil && !strings.HasSuffix(outcome, strconv.Itoa(*d.HTTPStatus)) { // as http_500 has it
		outcome += " " + strconv.Itoa(*d.HTTPStatus)
	}
	if d.NextAttemptAt != nil {
		next = shortTime(*d.NextAttemptAt)
	}
	return []string{d.ID, d.Status, d.EventType, d.EventID, strconv.Itoa(d.Attempts), outcome, shortTime(d.CreatedAt), next}
}

var deliveryTitles = []string{"ID", "STATUS", "TYPE", "EVENT", "ATTEMPTS", "OUTCOME", "CREATED", "NEXT"}

// deliveryFilter says which deliveries a command is about.
type deliveryFilter struct {
	From string `placeholder:"TIME" help:"Only those whose events were logged then or later, as in 2026-11-22 or 2026-11-22T03:10:00Z."`
	To   string `placeholder:"TIME" help:"Only those whose events were logged before; a date includes that day."`
}

func (f *deliveryFilter) query(status string) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"status": status, "from": f.From, "to": f.To} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// pages asks for deliveries until each has had enough of them, or there are no more.
func (c *oneEndpoint) pages(ctx context.Context, q url.Values, each func(answer []byte, page []delivered) (more bool, err error)) error {
	for {
		var page struct {
			Data       []delivered
			NextCursor *string
		}
		answer, err := c.client().call(ctx, http.MethodGet, webhookPath(c.ID)+"/deliveries?"+q.Encode(), nil, &page)
		if err != nil {
			return err
		}
		more, err := each(answer, page.Data)
		if err != nil || !more || page.NextCursor == nil {
			return err
		}
		q.Set("cursor", *page.NextCursor)
	}
}

type endpointDeliveriesCmd struct {
	oneEndpoint
	outputFlags
	deliveryFilter
	Status string `placeholder:"STATUS" help:"Only those that are pending, retrying, held, delivered, dead, cancelled or failed (a test)."`
	Limit  int    `default:"50" placeholder:"N" help:"How many at most, the newest events first; 0: all. Default: ${default}."`
}

func (c *endpointDeliveriesCmd) Run(ctx context.Context, s std) error {
	q := c.query(c.Status)
	if c.Limit > 0 {
		q.Set("limit", strconv.Itoa(min(c.Limit, 100)))
	}
	rows := [][]string{deliveryTitles}
	err := c.pages(ctx, q, func(answer []byte, page []delivered) (bool, error) {
		for i := range page {
			if c.Limit == 0 || len(rows) <= c.Limit {
				rows = append(rows, page[i].row())
			}
		}
		more := c.Limit == 0 || len(rows) <= c.Limit
		if c.JSON { // a page a line
			return more, printRaw(s.Out, answer)
		}
		return more, nil
	})
	if err != nil || c.JSON {
		return err
	}
	return printTable(s.Out, rows...)
}

type endpointRetryCmd struct {
	oneEndpoint
	deliveryFilter
	Deliveries []string `arg:"" optional:"" name:"delivery" help:"Ids of deliveries (dlv_…)."`
	Dead       bool     `help:"All dead letters, or those that --from and --to are about."`
}

// Validate stops a command that says nothing, or two things.
func (c *endpointRetryCmd) Validate() error {
	if c.Dead == (len(c.Deliveries) > 0) {
		return errors.New("name deliveries, or give --dead for all dead letters")
	}
	if !c.Dead && (c.From != "" || c.To != "") {
		return errors.New("--from and --to go with --dead")
	}
	return c.apiFlags.Validate()
}

func (c *endpointRetryCmd) Run(ctx context.Context, s std) error {
	ids := c.Deliveries
	if c.Dead {
		// First all are looked up: one that is delivered meanwhile would leave the list.
		err := c.pages(ctx, c.query("dead"), func(_ []byte, page []delivered) (bool, error) {
			for i := range page {
				ids = append(ids, page[i].ID)
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	for i, id := range ids {
		if _, err := c.client().call(ctx, http.MethodPost, webhookPath(c.ID)+"/deliveries/"+url.PathEscape(id)+"/retry", nil, nil); err != nil {
			return fmt.Errorf("retry %s, after %d others: %w", id, i, err)
		}
	}
	fmt.Fprintf(s.Out, "%d to be attempted once more at %s; what comes of it: sluice endpoint deliveries %[2]s\n", len(ids), c.ID)
	return nil
}
