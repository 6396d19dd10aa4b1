package main

import (
	"context"
	"fmt"
	"path/filepath"

	"sluice/dispatcher"
	"sluice/gateway/idem"
	"sluice/pkg/control"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/eventlog/kafka"
)

// topics lists every topic that sluice uses.
func topics() []eventlog.Topic {
	all := append(dispatcher.Topics(all.Dialects), control.Topic, idem.Topic)
	for _, env := range event.Environments {
		all = append(all, eventlog.Topic{Name: env.Topic(), Partitions: 1, Retention: event.Kept})
	}
	return all
}

// openLog opens the log, in the data directory or on brokers.
func (n *node) openLog(ctx context.Context) error {
	if len(n.cfg.Brokers) > 0 {
		security, sasl, err := n.cfg.Kafka.security()
		if err != nil {
			return err
		}
		n.log, err = kafka.Open(ctx, kafka.Config{
			Brokers: n.cfg.Brokers, Prefix: n.cfg.Prefix, Topics: topics(), TLS: security, SASL: sasl, Logger: n.cfg.Logger,
		})
		if err != nil {
			if remedy := n.cfg.Kafka.remedy(err); remedy != "" {
				err = fmt.Errorf("%w: %s", err, remedy)
			}
			return fmt.Errorf("--brokers: %w", err)
		}
	} else {
		var err error
		n.log, err = embedded.Open(ctx, embedded.Config{Dir: filepath.Join(n.cfg.Data, logDir), Topics: topics(), Logger: n.cfg.Logger})
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
