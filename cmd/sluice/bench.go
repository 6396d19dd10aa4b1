package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"sluice/bench"
)

// benchCmd measures this very binary beside the least that any program must spend.
type benchCmd struct {
	Rounds    int      `default:"5" placeholder:"N" help:"Rounds of each row, of floor and product in turns. Default: ${default}."`
	Endpoints int      `default:"100000" placeholder:"N" help:"Endpoints that the rows start and many have. Default: ${default}."`
	Events    int      `default:"10000000" placeholder:"N" help:"Events that the row start begins with. Default: ${default}."`
	Fill      string   `placeholder:"DIR" help:"Where start puts them, and finds them the next time. Default: a directory that it removes again."`
	Brokers   brokers  `placeholder:"HOST:PORT,…" help:"Kafka on which the row handover has its log: topics that it leaves there, whose names begin with bench."`
	Floor     string   `hidden:"" help:"Be the floor of that name; what runs the rows calls this."`
	Rows      []string `arg:"" optional:"" placeholder:"ROW" help:"Rows to measure. Default: those that take no longer than a minute a round."`
}

// Help is shown by sluice bench --help.
func (benchCmd) Help() string {
	usual, unasked := bench.Names()
	return `Prints the CPU time, rate and latency of a unit of work, of sluice and of its floor: a bare program
that does the same work and nothing else. The rows: ` + strings.Join(usual, ", ") + `.

Measured only where they are named: ` + strings.Join(unasked, ", ") + `. The rows wide, idle and resume have 10,000 connections and hang has 2,000,
and they need as many open files (ulimit -n 16000). A round of start or retries takes minutes; start's events and endpoints take some more before the first. The row handover has no floor and needs --brokers: it measures the time until lanes that
another process had send again.

Examples:

    sluice bench
    sluice bench ingest webhook --rounds 3
    sluice bench start --rounds 2 --fill /var/tmp/fill
    sluice bench handover --brokers kafka-1:9092`
}

// Validate stops a row that there isn't.
func (c *benchCmd) Validate() error {
	if c.Floor != "" {
		return nil
	}
	if c.Rounds < 1 {
		return fmt.Errorf("--rounds %d is too few: give 1 or more", c.Rounds)
	}
	if c.Endpoints < 1 || c.Events < 1 {
		return fmt.Errorf("--endpoints %d and --events %d: give 1 or more of both", c.Endpoints, c.Events)
	}
	rows := slices.Concat(bench.Names())
	for _, row := range c.Rows {
		if !slices.Contains(rows, row) {
			return fmt.Errorf("%q is no row: the rows are %s", row, strings.Join(rows, ", "))
		}
	}
	if slices.Contains(c.Rows, "handover") && len(c.Brokers) == 0 {
		return errors.New("the row handover needs a Kafka: give --brokers")
	}
	return nil
}

func (c *benchCmd) Run(ctx context.Context, s std) error {
	if c.Floor != "" {
		return bench.Floor(append([]string{c.Floor}, c.Rows...))
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	return bench.Run(ctx, bench.Config{Binary: binary, Rows: c.Rows, Rounds: c.Rounds, Out: s.Out,
		Start: bench.Start{Endpoints: c.Endpoints, Events: c.Events, Dir: c.Fill}, Brokers: strings.Join(c.Brokers, ",")})
}
