// Package inbound takes in what providers outside send to orgs: webhooks, each of
// which becomes an event of that org, once.
//
//	POST …/{org} ─► Verify ─► Read ─► publish ─► 200
//	                  │ the org's   │      ├─► known by the provider's id: 200, "duplicate"
//	                  ▼ secrets     ▼      └─► the log doesn't answer: 503, the provider sends it again
//	                 400           400
//
// What a provider signs, and how, is its dialect's (dialect.Inbound); that it is taken
// once is the log's, as with all that is published (gateway/idem).
package inbound

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/web"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// Secrets knows with which secrets providers sign.
type Secrets interface {
	ProviderSecrets(org, provider string, at time.Time) []endpoint.Secret
	Recheck(ctx context.Context) error
}

// Config is what an Inbound is made of.
type Config struct {
	Secrets Secrets
	// Publish takes an event in, and reports whether one of its id was before. It is
	// durable then. An error of code Conflict says that another event has the id.
	Publish    func(ctx context.Context, ev *event.Event) (replayed bool, err error)
	DefaultOrg string                // whose paths need no id
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics aren't shown
}

// Inbound takes webhooks in. All methods may be called from any number of goroutines.
type Inbound struct {
	cfg     Config
	metrics *prometheus.CounterVec // provider, outcome
	decoy   endpoint.Secret        // of orgs that have none: they aren't told apart by how long it takes
}

// New makes an Inbound.
func New(cfg Config) *Inbound {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	in := &Inbound{cfg: cfg, decoy: endpoint.Secret(rand.Text()), metrics: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sluice_inbound_total", Help: "Webhooks that came from providers, by what became of them."}, []string{"provider", "outcome"})}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(in.metrics)
	}
	return in
}

// The outcomes.
const (
	taken      = "taken"
	duplicate  = "duplicate"  // it was before
	unverified = "unverified" // none of the org's secrets signed it, or there is none
	unreadable = "unreadable" // it is the provider's, and can't be an event
	failed     = "failed"     // it can't be taken now
)

// maxBody is room for data, and for what a provider says around it.
const maxBody = event.MaxData + 64<<10

// Routes gives the calls by which a dialect's providers send.
func (in *Inbound) Routes(d *dialect.Dialect) (routes []web.Route) {
	for _, p := range d.Inbound {
		for _, outcome := range []string{taken, duplicate, unverified, unreadable, failed} {
			in.metrics.WithLabelValues(p.Provider, outcome)
		}
		for _, path := range []string{p.Path, p.Path + "/{org}"} {
			routes = append(routes, web.Route{Method: "POST", Path: path, Open: true, MaxBody: maxBody, Serve: func(c *web.Call) error {
				return in.serve(c, p)
			}})
		}
	}
	return routes
}

// within is how long a provider is kept waiting.
const within = 10 * time.Second

func (in *Inbound) serve(c *web.Call, p *dialect.Inbound) error {
	ctx, cancel := context.WithTimeout(c.Context(), within)
	defer cancel()
	org := c.Param("org")
	if org == "" {
		org = in.cfg.DefaultOrg
	}
	outcome, err := in.take(ctx, p, org, &dialect.Received{Header: c.Header, Body: c.PostBody(), Now: time.Now()})
	in.metrics.WithLabelValues(p.Provider, outcome).Inc()
	if err != nil {
		return err
	}
	c.JSON(200, p.AppendReply(nil, outcome == duplicate))
	return nil
}

func (in *Inbound) take(ctx context.Context, p *dialect.Inbound, org string, r *dialect.Received) (outcome string, err error) {
	if outcome, err = in.verify(ctx, p, org, r); err != nil {
		return outcome, err
	}
	id, ev, wrong := p.Read(r.Body)
	if wrong != nil {
		in.cfg.Logger.Warn("webhook of a provider can't be read", "provider", p.Provider, "org", org, "answer", string(wrong.AppendJSON(nil)))
		return unreadable, wrong
	}
	ev.Org, ev.ID = org, event.SourceID("in_", p.Provider, id)
	replayed, err := in.cfg.Publish(ctx, ev)
	var refused *dialect.Error
	switch {
	case errors.As(err, &refused) && refused.Code == dialect.Conflict:
		// The id is what makes it the same, not what it says.
		in.cfg.Logger.Warn("webhook of a provider came again with other content: the first stands", "provider", p.Provider, "org", org, "event", ev.ID)
		return duplicate, nil
	case errors.As(err, &refused) && refused.Status < 500:
		in.cfg.Logger.Warn("webhook of a provider can't be an event", "provider", p.Provider, "org", org, "answer", string(refused.AppendJSON(nil)))
		return unreadable, refused
	case err != nil:
		return failed, fmt.Errorf("publish webhook of provider %s: %w", p.Provider, err)
	case replayed:
		return duplicate, nil
	}
	return taken, nil
}

// verify looks whether the org's provider signed it. Where it didn't, a secret may have
// been set on another node a moment ago.
func (in *Inbound) verify(ctx context.Context, p *dialect.Inbound, org string, r *dialect.Received) (outcome string, err error) {
	verified := func() error {
		r.Secrets = in.cfg.Secrets.ProviderSecrets(org, p.Provider, r.Now)
		if len(r.Secrets) == 0 {
			r.Secrets = []endpoint.Secret{in.decoy}
		}
		if wrong := p.Verify(r); wrong != nil {
			return wrong
		}
		return nil
	}
	if verified() == nil {
		return "", nil
	}
	if err := in.cfg.Secrets.Recheck(ctx); err != nil {
		in.cfg.Logger.Warn("secret of a provider can't be looked up", "provider", p.Provider, "error", err)
		return failed, &dialect.Error{Status: 503, Code: dialect.Unavailable, Message: "the secret can't be looked up now: try again", RetryAfter: 1}
	}
	if err := verified(); err != nil {
		in.cfg.Logger.Debug("webhook refused", "provider", p.Provider, "org", dialect.Clip(org, 64), "error", err)
		return unverified, err
	}
	return "", nil
}
