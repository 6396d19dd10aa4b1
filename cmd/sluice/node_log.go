package main

import (
	"context"
	"fmt"
	"path/filepath"

	"sluice/dispatcher"
	"sluice/pkg/control"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/eventlog/kafka"
)

// openLog opens the log, in the data directory or on brokers, with every topic
// that a node uses.
func (n *node) openLog(ctx context.Context) error {
	topics := append(dispatcher.Topics(all.Dialects), control.Topic)
	for _, env := range event.Environments {
		topics = append(topics, eventlog.Topic{Name: env.Topic(), Partitions: 1, Retention: event.Kept})
	}
	var err error
	if len(n.cfg.Brokers) > 0 {
		n.log, err = kafka.Open(ctx, kafka.Config{Brokers: n.cfg.Brokers, Prefix: n.cfg.Prefix, Topics: topics, Logger: n.cfg.Logger})
		if err != nil {
			return fmt.Errorf("--brokers: %w", err)
		}
	} else {
		n.log, err = embedded.Open(ctx, embedded.Config{Dir: filepath.Join(n.cfg.Data, logDir), Topics: topics, Logger: n.cfg.Logger})
		if err != nil {
			return fmt.Errorf("--data: %w", err)
		}
	}
	n.onStop(func(context.Context) error { return n.log.Close() })
	n.ops.require("log", func(ctx context.Context) error {
		_, _, err := n.log.Bounds(ctx, eventlog.Partition{Topic: control.Topic.Name})
		return err
	})
	return nil
}
