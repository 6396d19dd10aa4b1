package main

import (
	"context"
	"errors"
	"net/http"

	"sluice/gateway/ingest"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/notice"
	"sluice/pkg/notice/smtp"
)

// startNotices tells orgs what becomes of their endpoints.
//
//	lanes ─► notices ─┐
//	                  ├─► notifier ─┬─► ingest ─► events.*
//	control ──────────┘             └─► --smtp
func (n *node) startNotices(in *ingest.Ingest) error {
	cfg := notice.Config{
		Log: n.log, Control: n.control, Logger: n.cfg.Logger, Registerer: n.metrics,
		Publish: func(ctx context.Context, ev *event.Event) error { return once(in.Publish(ctx, ev)) },
	}
	if n.cfg.SMTP.set() {
		mailer, err := smtp.New(n.cfg.SMTP.Server, string(n.cfg.MailFrom))
		if err != nil {
			return err
		}
		cfg.Mailer = mailer
	}
	stop := n.start("notices", notice.New(cfg).Run)
	n.onStop(func(context.Context) error { stop(); return nil })
	return nil
}

// once takes it for published that the org has an event of that id already: it was
// told before its endpoint was changed.
func once(err error) error {
	var refused *dialect.Error
	if errors.As(err, &refused) && refused.Status == http.StatusConflict {
		return nil
	}
	return err
}
