package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/dispatcher"
	"sluice/gateway/idem"
	"sluice/pkg/control"
	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/eventlog/kafka"
	"sluice/pkg/usage"
)

// topics lists every topic that sluice uses.
func topics() []eventlog.Topic {
	all := append(dispatcher.Topics(all.Dialects), control.Topic, idem.Topic, usage.Topic)
	for _, env := range event.Environments {
		all = append(all, eventlog.Topic{Name: env.Topic(), Partitions: 1, Retention: event.Kept, Yields: true})
	}
	return all
}

// openLog opens the log, in the data directory or on brokers.
func (n *node) openLog(ctx context.Context) error {
	if len(n.cfg.Brokers) > 0 {
		cfg, err := n.cfg.Kafka.config(n.cfg.Brokers, n.cfg.Prefix, n.cfg.Logger)
		if err != nil {
			return err
		}
		if n.log, err = kafka.Open(ctx, cfg); err != nil {
			return n.cfg.Kafka.brokersError(err)
		}
	} else {
		l, err := embedded.Open(ctx, embedded.Config{
			Dir: filepath.Join(n.cfg.Data, logDir), Topics: topics(), MaxBytes: int64(n.cfg.LogMaxBytes), Logger: n.cfg.Logger,
		})
		if err != nil {
			return fmt.Errorf("--data: %w", err)
		}
		n.log, n.embedded = l, l
		n.ops.require("disk", func(context.Context) error { return l.Healthy() })
		n.metrics.MustRegister(spaceMetrics(l)...)
	}
	n.onStop(func(context.Context) error { return n.log.Close() })
	if n.embedded != nil {
		if err := n.embedded.Check(checkWithin); err != nil {
			return fmt.Errorf("--data: %w", err)
		}
	}
	n.ops.require("log", func(ctx context.Context) error {
		_, _, err := n.log.Bounds(ctx, eventlog.Partition{Topic: control.Topic.Name})
		return err
	})
	return nil
}

// checkWithin is how long a start may look for damage in a log in --data.
const checkWithin = 200 * time.Millisecond

// spaceMetrics tell how full the log in --data is.
func spaceMetrics(l *embedded.Log) []prometheus.Collector {
	gauge := func(name, help string, of func(embedded.Space) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_log_" + name, Help: help}, func() float64 {
			s, err := l.Space()
			if err != nil {
				return math.NaN() // closed
			}
			return of(s)
		})
	}
	return []prometheus.Collector{
		gauge("bytes", "What the log takes on disk.", func(s embedded.Space) float64 { return float64(s.Used) }),
		gauge("max_bytes", "--log-max-bytes; 0: no limit.", func(s embedded.Space) float64 { return float64(s.Limit) }),
		gauge("disk_free_bytes", "What the log's disk has left.", func(s embedded.Space) float64 { return float64(s.Free) }),
		gauge("refuses", "What the log refuses for want of room; 0: nothing, 1: new events, 2: everything.", func(s embedded.Space) float64 {
			switch {
			case s.AllRefused:
				return 2
			case s.YieldingRefused:
				return 1
			}
			return 0
		}),
	}
}

// goOnFromCopy makes a log that was restored from a backup a log of its own: what
// it gives from here on isn't what the original gave at the same offsets, so
// cursors from before expire.
func (n *node) goOnFromCopy(ctx context.Context) error {
	if n.embedded == nil || !n.embedded.Copied() {
		return nil
	}
	if _, err := n.control.Do(ctx, &control.NewIncarnation{}); err != nil {
		return fmt.Errorf("go on from a backup: %w", err)
	}
	n.cfg.Logger.Info("this log is a backup: it goes on from here, and cursors from before have expired")
	return n.embedded.SettleCopied()
}
