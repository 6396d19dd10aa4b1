package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sluice/pkg/key"
)

// serveCmd runs a node until a signal.
//
//	config ─► node: log ─► control ─► gateway, dispatcher ─► ops    (node.go)
//	              │
//	              ▼ first start: org, key, two lines to paste       (bootstrap.go)
//	        SIGTERM, SIGINT ─► drain ─► exit 0;  once more ─► exit at once
type serveCmd struct {
	Config string `env:"SLUICE_CONFIG" placeholder:"FILE" help:"Read settings from a YAML file; its keys are the names of these flags, as in 'listen: :8080'."`

	Listen       address  `default:"127.0.0.1:8080" env:"SLUICE_LISTEN" placeholder:"HOST:PORT" group:"process" help:"Serve everything public here. Default: ${default}."`
	Ops          address  `default:"127.0.0.1:9090" env:"SLUICE_OPS" placeholder:"HOST:PORT" group:"process" help:"Serve /healthz, /readyz, /metrics, /debug/pprof and the admin API here; keep it private. Default: ${default}."`
	DrainTimeout duration `default:"25s" env:"SLUICE_DRAIN_TIMEOUT" placeholder:"TIME" group:"process" help:"How long a stopping process waits for streams to close and deliveries to finish. Default: ${default}."`
	LogFormat    string   `default:"json" enum:"json,text" env:"SLUICE_LOG_FORMAT" placeholder:"FORMAT" group:"process" help:"What the process says on standard error: json (an object a line) or text (for people). Default: ${default}."`
	AdminToken   string   `env:"SLUICE_ADMIN_TOKEN" placeholder:"TOKEN" group:"process" help:"Token of the admin API. Default: one is made at the first start and kept in admin.token in --data."`
	BootstrapKey string   `env:"SLUICE_BOOTSTRAP_KEY" placeholder:"KEY" group:"process" help:"API key of the first org, as sluice key new prints it. Default: one is made at the first start and printed, once."`

	Data           string  `default:"./data" env:"SLUICE_DATA" placeholder:"DIR" group:"log" help:"Keep the log and this node's secrets here; one process at a time. Default: ${default}."`
	Brokers        brokers `env:"SLUICE_BROKERS" placeholder:"HOST:PORT,…" group:"log" help:"Keep the log on these Kafka or Redpanda brokers, which any number of processes can share. Default: in --data."`
	Prefix         string  `default:"sluice." env:"SLUICE_PREFIX" placeholder:"TEXT" group:"log" help:"What names of topics and groups begin with on the brokers, so that deployments can share a cluster. Default: ${default}."`
	SecretsKeyFile string  `env:"SLUICE_SECRETS_KEY_FILE" placeholder:"FILE" group:"log" help:"Key that webhook secrets are sealed with in the log: 32 bytes as hex or base64 (openssl rand -hex 32). Required with --brokers, where every process needs the same; else made at the first start and kept in secrets.key in --data."`

	AllowHTTPEndpoints    bool     `name:"allow-http-endpoints" env:"SLUICE_ALLOW_HTTP_ENDPOINTS" group:"webhooks" help:"Accept webhook URLs with http, not just https."`
	AllowPrivateEndpoints prefixes `name:"allow-private-endpoints" env:"SLUICE_ALLOW_PRIVATE_ENDPOINTS" group:"webhooks" help:"Deliver to private addresses (loopback, 10.0.0.0/8 and so on), or with =CIDR,… to these only; accepts http too. For development and closed networks."`
}

// Help is shown by sluice serve --help.
func (serveCmd) Help() string {
	return `Without --brokers nothing else needs to be installed or running: the log is in --data. The first start
prints an API key and two lines to paste. SIGTERM or Ctrl-C drains: streams are told where to resume,
deliveries under way finish, and the process exits with 0; a second signal stops it at once.

Flags win over the environment, and that over the file named by --config.

Examples:

    sluice serve
    sluice serve --listen :8080 --data /var/lib/sluice --log-format text
    sluice serve --brokers kafka-1:9092,kafka-2:9092 --secrets-key-file /etc/sluice/secrets.key`
}

// Validate stops combinations that can't work.
func (c *serveCmd) Validate() error {
	if len(c.Brokers) > 0 && c.SecretsKeyFile == "" {
		return errors.New("--brokers needs --secrets-key-file: every process must seal secrets with the same key; make one with: openssl rand -hex 32 > secrets.key")
	}
	if _, err := key.Check(c.BootstrapKey); c.BootstrapKey != "" && err != nil {
		return errors.New("--bootstrap-key (SLUICE_BOOTSTRAP_KEY) is no API key: make one with: sluice key new")
	}
	return nil
}

func (c *serveCmd) config(logger *slog.Logger) nodeConfig {
	return nodeConfig{
		Listen: string(c.Listen), Ops: string(c.Ops), Data: c.Data,
		Brokers: c.Brokers, Prefix: c.Prefix, SecretsKeyFile: c.SecretsKeyFile,
		AdminToken: c.AdminToken, BootstrapKey: c.BootstrapKey,
		HTTP: c.AllowHTTPEndpoints || c.AllowPrivateEndpoints.Set, Private: c.AllowPrivateEndpoints,
		Drain:  time.Duration(c.DrainTimeout),
		Logger: logger,
	}
}

func (c *serveCmd) Run(ctx context.Context, s std) error {
	logger := newLogger(s.Err, c.LogFormat, slog.LevelInfo)
	n, err := startNode(ctx, c.config(logger))
	if err != nil {
		return err
	}
	if n.PrintedKey != "" {
		fmt.Fprint(s.Out, welcome(n.URL(), n.PrintedKey))
	}
	logger.Info("ready", "listen", n.URL(), "ops", n.OpsURL(), "version", buildVersion())

	select {
	case <-ctx.Done():
		logger.Info("draining", "timeout", time.Duration(c.DrainTimeout).String())
	case err = <-n.Failed():
		logger.Error("stopping", "error", err)
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.DrainTimeout))
	defer cancel()
	err = errors.Join(err, n.Stop(drain))
	logger.Info("stopped")
	return err
}
