// Package notice tells orgs what becomes of their endpoints: that one fails, that
// it was disabled, that deliveries expired. To the org's people by e-mail; that
// one was disabled to its programs too, by the event endpoint.disabled.
//
//	control: disabled, missed ─────────────┐
//	lanes ── failing, recovered ─► notices ┴► Notifier ─┬─► event, once ─► events.<env>
//	                                  ▲                 └─► letter of an org ─► one mail
//	                                  └────── told ◄────────────┘
//
// Every process with the role api runs a Notifier, and one of them at a time has
// the topic notices and tells. It owes what control's state, the failing and the
// recovered say, less what the told say; so it may be killed at any time. An event
// has an id that follows from what it tells, and is published through what takes
// an id once. A mail that the server has taken is told when that is durable: a
// kill between the two sends it once more, with the same Message-ID.
//
//	notice.go   Notifier
//	record.go   what lies in the topic
//	life.go     from one owner of the topic to the next
//	owe.go      what control and the lanes say is owed
//	tell.go     events; what is kept of what was told
//	letter.go   what an org is owed, until a mail says it
//	send.go     mails, one at a time
//	text.go     a mail's words
//	metrics.go  what is counted
//	smtp/       mail by SMTP
package notice

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/control"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Topic keeps what lanes noticed and what orgs were told.
var Topic = eventlog.Topic{Name: "notices", Partitions: 1, Retention: 8 * 24 * time.Hour}

var partition = eventlog.Partition{Topic: Topic.Name}

// When mails go out.
const (
	// gather is how long what happens waits for what else happens to its org, and
	// settled how long what may be over soon does.
	gather  = 15 * time.Second
	settled = time.Minute
	// pause is the least time between two mails to an org.
	pause = 10 * time.Minute
	// daily is how often a mail may warn of the same endpoint, or tell that
	// deliveries of it expired.
	daily = 24 * time.Hour
	// giveUp is how long a mail is tried.
	giveUp = 3 * daily
)

// Mail is one mail.
type Mail struct {
	ID      string // the part of its Message-ID before the @: the same when it is sent again
	To      string // one address, and nothing beside it
	Subject string
	Text    string // UTF-8, lines end with \n
}

// Mailer hands mails to a server. Send is called by one goroutine at a time.
type Mailer interface {
	// Send returns nil once the server is answerable for the mail. ErrRefused says
	// that it will never take this one, ErrDeferred that it may later; after any
	// other error it is the server that can't be used now.
	Send(ctx context.Context, m *Mail) error
}

// What a Mailer's errors may be.
var (
	ErrRefused  = errors.New("mail is refused")
	ErrDeferred = errors.New("mail isn't taken now")
)

// Config is what a Notifier is made of.
type Config struct {
	Log     eventlog.Log
	Control *control.Control
	// Publish takes in an event, and returns nil once it is durable, or one of the
	// same org and id was before.
	Publish    func(ctx context.Context, ev *event.Event) error
	Mailer     Mailer                // nil: what a mail would say is logged
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics aren't shown
}

// Notifier tells orgs what becomes of their endpoints.
type Notifier struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	began   time.Time
}

// New makes a Notifier.
func New(cfg Config) *Notifier {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Notifier{cfg: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registerer), began: time.Now()}
}

// Run tells, while the topic is this process's, until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	return n.cfg.Log.Own(ctx, Topic.Name, n.own)
}

func (n *Notifier) own(ctx context.Context, share eventlog.Share) {
	const shortest, longest = time.Second, 30 * time.Second
	for delay := shortest; ctx.Err() == nil; delay = min(2*delay, longest) {
		began := time.Now()
		err := newLife(n, share).run(ctx)
		if ctx.Err() != nil {
			return
		}
		n.log.Error("notices stopped, beginning again", "error", err, "again", delay)
		if time.Since(began) > time.Minute {
			delay = shortest
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
}
