package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/bench"
)

// benchCmd measures this very binary beside the least that any program must spend.
type benchCmd struct {
	Rounds    int      `default:"5" placeholder:"N" help:"Rounds of each row, of floor and product in turns. Default: ${default}."`
	Endpoints int      `default:"100000" placeholder:"N" help:"Endpoints that the rows start and many have. Default: ${default}."`
	Events    int      `default:"10000000" placeholder:"N" help:"Events that the row start begins with. Default: ${default}."`
	Fill      string   `placeholder:"DIR" help:"Where start puts them, and finds them the next time. Default: a directory that it removes again."`
	Brokers   brokers  `placeholder:"HOST:PORT,…" help:"Kafka on which the row handover has its log: topics that it leaves there, whose names begin with bench."`
	JSON      string   `name:"json" type:"path" placeholder:"FILE" help:"Write the machine and every round there, as JSON."`
	Compare   string   `type:"existingfile" placeholder:"FILE" help:"Hold the rows against those of another run, that --json wrote; the exit code is 1 where one is worse."`
	Profile   string   `type:"path" placeholder:"DIR" help:"Write profiles of sluice there, ROW.cpu.pprof and ROW.heap.pprof, for go tool pprof. Its CPU time is somewhat more then."`
	Floor     string   `hidden:"" help:"Be the floor of that name; what runs the rows calls this."`
	Rows      []string `arg:"" optional:"" placeholder:"ROW" help:"Rows to measure. Default: those that take no longer than a minute a round."`

	before bench.Result // what --compare names
}

// Help is shown by sluice bench --help.
func (benchCmd) Help() string {
	usual, unasked := bench.Names()
	return `Prints the CPU time, rate and latency of a unit of work, of sluice and of its floor: a bare program
that does the same work and nothing else. The rows: ` + strings.Join(usual, ", ") + `.

Measured only where they are named: ` + strings.Join(unasked, ", ") + `. The rows wide, idle, idlesse and resume have 10,000 connections and hang has 2,000,
and they need as many open files (ulimit -n 16000). A round of start or retries takes minutes; start's events and endpoints take some more before the first. The row handover has no floor and needs --brokers: it measures the time until lanes that
another process had send again.

--profile takes in sluice's own work while a row is measured, from when it is ready until it is stopped: CPU of all rounds
together, and the heap at the end of the last. A part of a second is missing where a row kills it.

--compare tells better from worse by how many times the floor's CPU time each round spent: floor and product ran next to
each other, so that it hardly matters whether the machine is another or busier. A row is better or worse where its
median is more than 2 % apart, and chance would set the rounds of one program so far apart in less than one run of a
hundred (Mann and Whitney's test of ranks); else it is the same. That takes five rounds of both. Rates and latencies
aren't judged, as they tell of the neighbours too, nor are rows that have no floor. On a processor of another kind the floor
may cost another share of sluice's work: what is worse there may be the machine's, and that is said. docs/bench.json has the rounds of the README's table.

Examples:

    sluice bench
    sluice bench --json before.json
    sluice bench ingest webhook --compare before.json
    sluice bench --compare docs/bench.json
    sluice bench ingest webhook --rounds 3
    sluice bench fanout --rounds 1 --profile /tmp/why && go tool pprof -top /tmp/why/fanout.cpu.pprof
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
	if c.Compare != "" {
		text, err := os.ReadFile(c.Compare)
		if err != nil {
			return fmt.Errorf("--compare: %w", err)
		}
		if err := json.Unmarshal(text, &c.before); err != nil || len(c.before.Rows) == 0 {
			return fmt.Errorf("--compare %s has no rows (%v): give a file that sluice bench --json wrote", c.Compare, err)
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
	if c.Profile != "" { // found out now, not when the first row is done
		if err := os.MkdirAll(c.Profile, 0o755); err != nil {
			return fmt.Errorf("--profile: %w", err)
		}
	}
	result, err := bench.Run(ctx, bench.Config{Binary: binary, Rows: c.Rows, Rounds: c.Rounds, Out: s.Out,
		Start: bench.Start{Endpoints: c.Endpoints, Events: c.Events, Dir: c.Fill}, Brokers: strings.Join(c.Brokers, ","), Profile: c.Profile})
	if result == nil || len(result.Rows) == 0 {
		return err
	}
	if c.JSON != "" { // of a run that was ended, too
		err = errors.Join(err, writeJSON(c.JSON, result))
	}
	if err != nil || c.Compare == "" {
		return err
	}
	return c.compare(s, result)
}

// errSlower is what a comparison ends with in which a row is worse.
var errSlower = errors.New("sluice spends more than it did: see the comparison")

func (c *benchCmd) compare(s std, now *bench.Result) error {
	fmt.Fprintf(s.Out, "then  %s: %s\nnow   %s: %s\n\n", c.before.Began.Format(time.DateTime), c.before.Machine, now.Began.Format(time.DateTime), now.Machine)
	table, worse := [][]string{{"ROW", "TIMES THE FLOOR THEN", "NOW", "BY CHANCE", "VERDICT"}}, false
	for _, change := range bench.Compare(&c.before, now) {
		worse = worse || change.Verdict == bench.Worse
		if change.Why != "" {
			table = append(table, []string{change.Row, "–", "–", "–", fmt.Sprintf("%s: %s", change.Verdict, change.Why)})
			continue
		}
		table = append(table, []string{change.Row, change.Before.String(), change.After.String(), fmt.Sprintf("%.2g", change.Chance), string(change.Verdict)})
	}
	if err := printTable(s.Out, table...); err != nil {
		return err
	}
	if then, here := c.before.Machine, now.Machine; then.CPU != here.CPU || then.Processors != here.Processors {
		fmt.Fprintln(s.Out, "\nThe processors are others than then: a row may be better or worse for that alone.")
	}
	if worse {
		return errSlower
	}
	return nil
}

// writeJSON writes figures to a file, for people to read, too.
func writeJSON(path string, figures any) error {
	text, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
