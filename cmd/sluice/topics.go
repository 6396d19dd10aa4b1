package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sluice/pkg/eventlog/kafka"
)

// topicsCmd prints what to create on brokers where sluice itself may not.
type topicsCmd struct {
	JSON     bool   `name:"json" group:"output" help:"Print JSON."`
	Commands bool   `group:"output" help:"Print commands for Kafka's own kafka-topics.sh."`
	Brokers  string `default:"localhost:9092" env:"SLUICE_BROKERS" placeholder:"HOST:PORT,…" help:"Brokers that the commands of --commands call; nothing is called now. Default: ${default}."`
	Prefix   string `default:"sluice." env:"SLUICE_PREFIX" placeholder:"TEXT" help:"What names of topics and groups begin with, as of sluice serve. Default: ${default}."`
	Replicas int    `default:"3" placeholder:"N" help:"Copies of each partition; sluice serve takes 3, or as many as there are brokers. Default: ${default}."`
}

// Help is shown by sluice topics --help.
func (topicsCmd) Help() string {
	return `sluice serve makes its topics itself where it may. Where it may not, create them first, exactly so:
the number of partitions is for good, and each start looks at everything printed here: what would lose
records or take none is refused, and few replicas are warned of. The user of sluice serve then needs on
these topics: Describe, DescribeConfigs, Read, Write and Delete (which is what giving up old records is
called); and Read on the group. What of these is missing is said at the start.

Examples:

    sluice topics
    sluice topics --commands --brokers kafka-1:9092 | sh`
}

// Validate stops what no cluster would do, and two answers at once.
func (c *topicsCmd) Validate() error {
	if c.JSON && c.Commands {
		return errors.New("--json and --commands are two answers: give one of them")
	}
	if c.Replicas < 1 || c.Replicas > 32767 {
		return fmt.Errorf("--replicas %d can't be: give a number from 1 to that of the brokers", c.Replicas)
	}
	return nil
}

// brokerTopic is a topic as brokers are told of it.
type brokerTopic struct {
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"`
	Replicas   int               `json:"replicas"`
	Config     map[string]string `json:"config"`
}

func (c *topicsCmd) Run(s std) error {
	var list []brokerTopic
	for _, t := range topics() {
		list = append(list, brokerTopic{c.Prefix + t.Name, t.Partitions, c.Replicas, kafka.Settings(t, c.Replicas)})
	}
	switch {
	case c.JSON:
		enc := json.NewEncoder(s.Out)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	case c.Commands:
		for _, t := range list {
			fmt.Fprintln(s.Out, t.command(c.Brokers))
		}
		return nil
	}
	names := slices.Sorted(maps.Keys(list[0].Config))
	rows := [][]string{append([]string{"TOPIC", "PARTITIONS", "REPLICAS"}, names...)}
	for _, t := range list {
		row := []string{t.Name, strconv.Itoa(int(t.Partitions)), strconv.Itoa(t.Replicas)}
		for _, name := range names {
			row = append(row, t.Config[name])
		}
		rows = append(rows, row)
	}
	return printTable(s.Out, rows...)
}

func (t brokerTopic) command(brokers string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "kafka-topics.sh --bootstrap-server %s --create --if-not-exists --topic %s --partitions %d --replication-factor %d",
		quoteShell(brokers), quoteShell(t.Name), t.Partitions, t.Replicas)
	for _, name := range slices.Sorted(maps.Keys(t.Config)) {
		fmt.Fprintf(&b, " --config %s=%s", name, t.Config[name])
	}
	return b.String()
}

// quoteShell leaves what a shell takes as it is, and quotes everything else.
func quoteShell(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".,:_-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
