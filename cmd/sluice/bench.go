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
	Endpoints int      `default:"100000" placeholder:"N" help:"Endpoints that the row start begins with. Default: ${default}."`
	Events    int      `default:"10000000" placeholder:"N" help:"Events that it begins with. Default: ${default}."`
	Fill      string   `placeholder:"DIR" help:"Where it puts them, and finds them the next time. Default: a directory that it removes again."`
	Brokers   brokers  `placeholder:"HOST:PORT,…" help:"Kafka on which the row handover has its log: topics that it leaves there, whose names begin with bench. Default: the row is left out."`
	Floor     string   `hidden:"" help:"Be the floor of that name; what runs the rows calls this."`
	Rows      []string `arg:"" optional:"" placeholder:"ROW" help:"Rows to measure. Default: all."`
}

// Help is shown by sluice bench --help.
func (benchCmd) Help() string {
	return `Prints the CPU time, rate and latency of a unit of work, of sluice and of its floor: a bare program
that does the same work and nothing else. The row handover has no floor: it measures the time until lanes that
another process had send again. The rows: ` + strings.Join(bench.Names(), ", ") + `.`
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
	for _, row := range c.Rows {
		if !slices.Contains(bench.Names(), row) {
			return fmt.Errorf("%q is no row: the rows are %s", row, strings.Join(bench.Names(), ", "))
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
