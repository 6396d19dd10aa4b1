package main

import (
	"context"

	"sluice/dispatcher"
	"sluice/dispatcher/attempt"
	"sluice/pkg/dialect/all"
)

// startDispatcher sends webhooks.
//
//	events.* ─► fan-out ─► tiers ─► lanes ─► sender ─► receivers
//	                         ▲        │
//	                         └────────┘ failed: the next tier
func (n *node) startDispatcher(context.Context) error {
	if err := n.cfg.EgressBind.try(); err != nil {
		return err
	}
	sender := attempt.NewHTTPSender(attempt.Config{
		Version: version(), AllowHTTP: n.cfg.HTTP, AllowPrivate: n.private(),
		Proxy: n.cfg.EgressProxy, From: n.cfg.EgressBind, Kept: unusedAtMost(), Logger: n.cfg.Logger,
	})
	n.onStop(func(context.Context) error { sender.Close(); return nil })

	cfg := dispatcher.Config{
		Log: n.log, Control: n.control, Sender: sender, Usage: n.meter, Quota: &n.quota, Dialects: all.Dialects,
		Logger: n.cfg.Logger, Registerer: n.metrics, Trim: len(n.cfg.Brokers) == 0,
	}
	// On brokers a lane goes to the next process that can take it, and soon.
	if len(n.cfg.Brokers) == 0 {
		cfg.Drain = n.cfg.Drain / 2
	}
	d := dispatcher.New(cfg)
	stop := n.start("dispatcher", func(ctx context.Context) error {
		select {
		case <-n.totals.Ready(): // what isn't known can't be held to
		case <-ctx.Done():
			return nil
		}
		return d.Run(ctx)
	})
	n.onStop(func(context.Context) error { stop(); return nil })
	n.ops.require("dispatcher", func(context.Context) error { return d.Healthy() })
	return nil
}
