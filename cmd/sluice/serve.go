package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"
)

// serveCmd runs a node until a signal.
//
//	config ─► node: log ─► control ─► gateway, dispatcher ─► ops    (node.go)
//	              │
//	              ▼ first start: org, key, two lines to paste       (bootstrap.go)
//	                 SIGHUP ─► the certificate is read again
//	        SIGTERM, SIGINT ─► drain ─► exit 0;  once more ─► exit at once
type serveCmd struct{ settings }

// Help is shown by sluice serve --help.
func (serveCmd) Help() string {
	return `Without --brokers nothing else needs to be installed or running: the log is in --data. The first start
prints an API key and two lines to paste. SIGTERM or Ctrl-C drains: streams are told where to resume,
deliveries under way finish, and the process exits with 0; a second signal stops it at once.

Flags win over the environment, and that over the file named by --config.

Examples:

    sluice serve
    sluice serve --listen :8080 --data /var/lib/sluice --log-format text
    sluice serve --listen :443 --tls-cert fullchain.pem --tls-key privkey.pem
    sluice serve --brokers kafka-1:9092,kafka-2:9092 --secrets-key-file /etc/sluice/secrets.key --roles dispatcher

Every setting is in docs/configuration.md; sluice config check shows what is in force, and from where.`
}

func (c *serveCmd) Run(ctx context.Context, s std) error {
	// Two thirds of what is alive are the logs' buffers, which a collection doesn't look
	// into: to let as much again gather before the next would buy little for its memory.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(65)
	}
	logger := newLogger(s.Err, c.LogFormat, slog.LevelInfo)
	// Caught in any case: where there is nothing to read again it mustn't end the process.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	// Whoever reads the log may go, as journald does when it restarts: then what is said is
	// lost, and nothing else.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	n, err := startNode(ctx, c.node(logger))
	if err != nil {
		return err
	}
	if n.PrintedKey != "" {
		fmt.Fprint(s.Out, welcome(n.URL(), n.PrintedKey))
	}
	logger.Info("ready", "listen", n.URL(), "ops", n.OpsURL(), "roles", c.Roles.String(), "version", buildVersion())

	// What the start took and needs no more goes back to the system now. Nothing
	// would see to that as long as there is nothing to do.
	debug.FreeOSMemory()

	for running := true; running; {
		select {
		case <-reload:
			n.reload()
		case <-ctx.Done():
			logger.Info("draining", "timeout", time.Duration(c.DrainTimeout).String())
			running = false
		case err = <-n.Failed():
			logger.Error("stopping", "error", err)
			running = false
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.DrainTimeout))
	defer cancel()
	err = errors.Join(err, n.Stop(drain))
	logger.Info("stopped")
	return err
}
