package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

type orgUsageCmd struct {
	adminFlags
	outputFlags
	Org string `arg:"" help:"Id of the org."`
}

// Help is shown by sluice org usage --help.
func (orgUsageCmd) Help() string {
	return `Shows this month and the one before, then the days of the last 40 on which anything was counted, all in UTC:

    PUBLISHED  events that the org published; not those that it wrote to the brokers itself
    ATTEMPTS   webhook attempts, retries among them and tests not
    DELIVERED  those that succeeded
    STREAMED   events sent on its streams, one for each connection
    REQUESTS   API requests, those that count against its plan
    METERED    deliveries that count against its plan's quota of the month, for endpoints of an API that has one;
               past it those of the free plan are held, and the last line says so

All processes count, and what they counted shows up about a second later. One that is killed loses its last second.

Examples:

    sluice org usage org_acme
    sluice org usage org_acme --json`
}

// usageRow is a month or a day of one environment, as the admin API gives it.
type usageRow struct {
	Month, Day, Environment                  string
	Published, Attempts, Delivered, Streamed int64
	Requests, Metered                        int64
}

func (c *orgUsageCmd) Run(ctx context.Context, s std) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	var used struct {
		Months, Days []usageRow
		Holds        string
	}
	answer, err := api.call(ctx, http.MethodGet, "/admin/v1/orgs/"+url.PathEscape(c.Org)+"/usage", nil, &used)
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printRaw(s.Out, answer)
	case len(used.Months) == 0:
		fmt.Fprintf(s.Out, "Nothing was counted of %s this month and the one before.\n", c.Org)
		return nil
	}
	rows := [][]string{{"PERIOD", "ENVIRONMENT", "PUBLISHED", "ATTEMPTS", "DELIVERED", "STREAMED", "REQUESTS", "METERED"}}
	for _, u := range append(used.Months, used.Days...) {
		row := []string{u.Month + u.Day, u.Environment}
		for _, n := range []int64{u.Published, u.Attempts, u.Delivered, u.Streamed, u.Requests, u.Metered} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		rows = append(rows, row)
	}
	if err := printTable(s.Out, rows...); err != nil || used.Holds == "" {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "\nOf %s %s.\n", c.Org, used.Holds)
	return err
}
