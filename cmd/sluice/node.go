package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"sluice/dispatcher"
	"sluice/gateway/manage"
	"sluice/gateway/web"
	"sluice/pkg/control"
	"sluice/pkg/datadir"
	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/usage"
)

// A node is one process of sluice, whole: what it is made of, in the order in
// which it starts. It stops in the order of the arrows, from the edge inwards.
//
//	--listen ──► gateway ──► events.* ──► dispatcher ──► receivers
//	 clients ◄── (ingest,      │           (fan-out, lanes)
//	              manage,      ▼             │
//	              streams) ◄─ log ◄──────────┘
//	                │          ▲
//	                └──────► control (orgs, keys, endpoints; a log too)
//	--ops ─────► health, metrics, admin API
type node struct {
	PrintedKey string // of the first org, when it was made just now; shown once

	cfg               nodeConfig
	metrics           *prometheus.Registry
	certificate       *certificate // nil: plain text
	listen, opsListen net.Listener // listen is nil where nothing is public
	ops               *ops
	log               eventlog.Log
	data              *datadir.Lock // on Data; nil: this node keeps nothing there
	embedded          *embedded.Log // the log, where it is in Data; else nil
	control           *control.Control
	meter             *usage.Meter
	minutes           usage.Minutes
	quota             usage.Quota
	totals            *usage.Totals // nil where nobody asks for them
	server            *web.Server   // nil where nothing is public
	admin             string        // token

	started  atomic.Bool
	draining atomic.Bool
	failed   chan error                        // a part ended that shouldn't have
	stops    []func(ctx context.Context) error // of what was started, in that order
}

// nodeConfig says how a node runs. The zero value of a member means what the flag
// of the same name means when it isn't given.
type nodeConfig struct {
	Listen, Ops        string
	TLSCert            string
	TLSKey             string
	PerAddress         int
	Origins            origins
	RegistrationClosed bool
	PerOrg             int // streams; 0: the default
	OrgPatterns        int // of its streams together; 0: the default
	Coalesce           time.Duration
	WSCompress         bool // for streams whose clients offer it
	WSEcho             bool
	Roles              roles
	Data               string
	LogMaxBytes        size
	Brokers            []string // empty: the log is in Data
	Prefix             string
	Kafka              kafkaFlags
	SecretsKeyFile     string
	IdempotencyEntries int
	AttemptsDB         string // empty: an index in Data
	AdminToken         string
	BootstrapKey       string
	HTTP               bool // endpoints without TLS
	Private            prefixes
	EgressProxy        *url.URL // nil: none
	EgressBind         sources
	SMTP               smtpServer
	MailFrom           mailFrom
	Drain              time.Duration
	Logger             *slog.Logger
}

// startNode starts a node and returns when it is ready. What was begun is
// undone when it can't.
func startNode(ctx context.Context, cfg nodeConfig) (_ *node, err error) {
	n := &node{cfg: cfg, metrics: prometheus.NewRegistry(), failed: make(chan error, 1)}
	n.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			err = errors.Join(err, n.Stop(undo))
		}
	}()
	for _, start := range []func(context.Context) error{
		n.bind, n.startOps, n.dataDir, n.openLog, n.openControl, n.goOnFromCopy, n.startUsage, n.only(roleAPI, n.startAdmin),
		n.only(roleDispatcher, n.startDispatcher), n.startGateway, n.awaitReady,
	} {
		if err := start(ctx); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// only leaves a start out where the node doesn't have the role.
func (n *node) only(one role, start func(context.Context) error) func(context.Context) error {
	if !n.cfg.Roles.has(one) {
		return func(context.Context) error { return nil }
	}
	return start
}

// bind takes both ports first: that they are busy is the likeliest mistake, and
// is found before anything was touched.
func (n *node) bind(context.Context) (err error) {
	if n.cfg.Roles.public() {
		if n.cfg.TLSCert != "" {
			if n.certificate, err = newCertificate(n.cfg.TLSCert, n.cfg.TLSKey); err != nil {
				return err
			}
			if err := n.certificate.current.Load().invalid(); err != nil {
				n.cfg.Logger.Warn("clients will refuse the certificate", "error", err)
			}
		}
		if n.listen, err = n.take("--listen", n.cfg.Listen); err != nil {
			return err
		}
	}
	n.opsListen, err = n.take("--ops", n.cfg.Ops)
	return err
}

func (n *node) take(flag, address string) (net.Listener, error) {
	ln, err := web.Listen(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %w: stop what listens there, or give %s another address", flag, err, flag)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	n.onStop(func(context.Context) error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) { // its server may have closed it
			return err
		}
		return nil
	})
	return ln, nil
}

func (n *node) startOps(context.Context) error {
	n.ops = newOps(n.metrics, n.cfg.Roles)
	n.ops.require("process", func(context.Context) error {
		if n.draining.Load() {
			return errors.New("draining")
		}
		return nil
	})
	n.ops.require("start", func(context.Context) error {
		if !n.started.Load() {
			return errors.New("still starting")
		}
		return nil
	})
	go n.ops.server.Serve(n.opsListen)
	n.onStop(n.ops.server.Shutdown)
	return nil
}

func (n *node) openControl(ctx context.Context) error {
	sealer, err := n.sealer()
	if err != nil {
		return err
	}
	c, err := control.Open(ctx, control.Config{
		Log: n.log, Sealer: sealer, Logger: n.cfg.Logger, Lanes: delivery.Lanes, Snapshot: n.snapshotFile(),
		Node: processName(), Registerer: n.metrics,
	})
	if err != nil {
		return err
	}
	n.control = c
	n.onStop(func(context.Context) error { c.Close(); return nil })
	n.ops.require("control", func(context.Context) error { return c.Healthy() })
	return nil
}

// startUsage counts what orgs use, and keeps up with what all nodes counted. It
// stops after all that counts, so that nothing is left out.
func (n *node) startUsage(context.Context) error {
	n.meter = usage.NewMeter(usage.MeterConfig{Log: n.log, Logger: n.cfg.Logger, Minutes: &n.minutes, Quota: &n.quota})
	stop := n.start("usage", n.meter.Run)
	n.onStop(func(context.Context) error { stop(); return nil })
	if !n.cfg.Roles.has(roleAPI) && !n.cfg.Roles.has(roleDispatcher) {
		return nil
	}
	n.totals = usage.NewTotals(usage.TotalsConfig{Log: n.log, Logger: n.cfg.Logger, Registerer: n.metrics, Minutes: &n.minutes, Quota: &n.quota})
	stopTotals := n.start("usage", n.totals.Run)
	n.onStop(func(context.Context) error { stopTotals(); return nil })
	n.ops.require("usage", func(context.Context) error {
		select {
		case <-n.totals.Ready():
			return nil
		default:
			return errors.New("reading what was counted")
		}
	})
	return nil
}

// startAdmin serves the admin API, and makes the first org.
func (n *node) startAdmin(ctx context.Context) error {
	printed, _, err := control.Bootstrap(ctx, n.control, n.cfg.BootstrapKey)
	if err != nil {
		return err
	}
	n.PrintedKey = printed
	if n.admin, err = manage.LoadAdminToken(n.cfg.Data, n.cfg.AdminToken); err != nil {
		return err
	}
	api := manage.NewAdmin(n.control, n.admin, n.cfg.Logger)
	api.ServeUsage(n.totals)
	api.ServeProviders(providers())
	api.ServeSkip(func(ctx context.Context, lane int32) error { return dispatcher.Skip(ctx, n.log, lane) })
	if l := n.embedded; l != nil {
		api.ServeBackup(func(dir string) error { return backup(l, n.cfg.Data, dir) })
	}
	var admin http.Handler = api
	n.ops.admin.Store(&admin)
	return nil
}

// private gives the address ranges, public or not, that deliveries may go to.
func (n *node) private() []netip.Prefix {
	switch {
	case !n.cfg.Private.Set:
		return nil
	case len(n.cfg.Private.Ranges) > 0:
		return n.cfg.Private.Ranges
	default:
		return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
}

// awaitReady waits until every part says that it is ready.
func (n *node) awaitReady(ctx context.Context) error {
	n.started.Store(true)
	for {
		reasons := n.ops.notReady(ctx)
		if reasons == "" {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case err := <-n.failed:
			return err
		case <-ctx.Done():
			if n.ops.said.Load() { // whoever stops it waited until it was: what was looked at here is only later
				return nil
			}
			return fmt.Errorf("stopped before it was ready: %s", strings.ReplaceAll(strings.TrimSpace(reasons), "\n", "; "))
		}
	}
}

// start runs a part. stop ends it and waits until it has ended; one that ends
// before is the node's end.
func (n *node) start(name string, work func(ctx context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := work(ctx); ctx.Err() == nil && !n.draining.Load() {
			if err == nil {
				err = errors.New("it gave no reason")
			}
			select {
			case n.failed <- fmt.Errorf("%s ended: %w", name, err):
			default: // another part was first
			}
		}
	}()
	return func() { cancel(); <-done }
}

// onStop has undo called when the node stops, before what was started earlier is
// undone.
func (n *node) onStop(undo func(ctx context.Context) error) { n.stops = append(n.stops, undo) }

// Stop drains the node: it takes nothing new, tells its streams where to go on,
// finishes what is under way, and gives the log up. What isn't done when ctx
// ends is cut off, and counts for nothing.
func (n *node) Stop(ctx context.Context) error {
	n.draining.Store(true)
	var errs []error
	for i := len(n.stops) - 1; i >= 0; i-- {
		errs = append(errs, n.stops[i](ctx))
	}
	n.stops = nil
	return errors.Join(errs...)
}

// URL is where the public API is; empty: not on this node.
func (n *node) URL() string {
	switch {
	case n.listen == nil:
		return ""
	case n.certificate != nil:
		return reachable("https", n.listen)
	}
	return reachable("http", n.listen)
}

// OpsURL is where the ops server is.
func (n *node) OpsURL() string { return reachable("http", n.opsListen) }

// reachable gives an address of this machine for one that means all of them.
func reachable(scheme string, ln net.Listener) string {
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// AdminToken lets in to the admin API.
func (n *node) AdminToken() string { return n.admin }

// reload reads again what may change while the node runs: its certificate.
func (n *node) reload() {
	if n.certificate == nil {
		n.cfg.Logger.Info("nothing to read again: this process shows no certificate")
		return
	}
	n.certificate.reload(n.cfg.Logger)
}

// Failed tells when a part ended that shouldn't have.
func (n *node) Failed() <-chan error { return n.failed }

// processName tells this process from others, in what they log.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s, process %d", host, os.Getpid())
}
