package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sluice/pkg/attempts/postgres"
	"sluice/pkg/control"
	"sluice/pkg/key"
)

// settings are what a node can be told: as flags, in the environment, in the
// config file. docs/configuration.md is made of them.
type settings struct {
	Config string `env:"SLUICE_CONFIG" placeholder:"FILE" help:"Read settings from a YAML file; its keys are the names of these flags, as in 'listen: :8080'."`

	Listen       address  `default:"127.0.0.1:8080" env:"SLUICE_LISTEN" placeholder:"HOST:PORT" group:"process" help:"Serve everything public here. Default: ${default}."`
	TLSCert      string   `name:"tls-cert" env:"SLUICE_TLS_CERT" placeholder:"FILE" group:"process" help:"Serve --listen over TLS, with this certificate (PEM, its chain behind it). SIGHUP reads it again. Default: plain text."`
	TLSKey       string   `name:"tls-key" env:"SLUICE_TLS_KEY" placeholder:"FILE" group:"process" help:"Its private key (PEM)."`
	PerAddress   int      `name:"connections-per-address" default:"0" env:"SLUICE_CONNECTIONS_PER_ADDRESS" placeholder:"N" group:"process" help:"Connections to --listen that one address may have; more are closed. Behind a proxy, all come from its address. 0: no bound but that of the process, whose open files decide (ulimit -n). Default: ${default}."`
	CORSOrigins  origins  `name:"cors-origins" env:"SLUICE_CORS_ORIGINS" placeholder:"ORIGIN,…" group:"process" help:"Web origins whose pages may call --listen and read its answers, with cookies: https://app.example.com, or several with commas between. Default: none but sluice's own."`
	PerOrg       int      `name:"connections-per-org" default:"20000" env:"SLUICE_CONNECTIONS_PER_ORG" placeholder:"N" group:"process" help:"Streams that one org may have open on this process; who comes then is told so, and closed. Default: ${default}."`
	OrgPatterns  int      `name:"patterns-per-org" default:"200000" env:"SLUICE_PATTERNS_PER_ORG" placeholder:"N" group:"process" help:"Patterns that one org's streams on this process may be subscribed to, all together; a subscribe beyond them is refused. Default: ${default}."`
	Registration string   `default:"open" enum:"open,closed" env:"SLUICE_REGISTRATION" placeholder:"WHO" group:"process" help:"Who may register an org by a public API that has accounts: open (anybody who reaches --listen; the org gets the smallest plan) or closed (nobody: the admin API makes orgs). Who has an account logs in either way. Default: ${default}."`
	Ops          address  `default:"127.0.0.1:9090" env:"SLUICE_OPS" placeholder:"HOST:PORT" group:"process" help:"Serve /healthz, /readyz, /metrics, /debug/pprof and the admin API here; keep it private. Default: ${default}."`
	Roles        roles    `default:"all" env:"SLUICE_ROLES" placeholder:"ROLE,…" group:"process" help:"What this process does: all, or some of api (publishing, endpoints, reads, the admin API), gateway (streams) and dispatcher (webhooks). Others than all need --brokers. Default: ${default}."`
	Coalesce     duration `default:"0" env:"SLUICE_COALESCE" placeholder:"TIME" group:"process" help:"How long events for streams wait for others since some were last written, so that one write carries several: less CPU time at hundreds of events a second, for as much latency. 0: not at all. Default: ${default}."`
	WSCompress   bool     `name:"ws-compression" env:"SLUICE_WS_COMPRESSION" group:"process" help:"Compress events on WebSockets for clients that offer permessage-deflate, as browsers do: an event once, for all of them, without context from one message to the next. Messages of less than 256 bytes, and replays, go out as they are. For slow or metered networks; it costs clients more than it costs sluice."`
	DebugWSEcho  bool     `name:"debug-ws-echo" env:"SLUICE_DEBUG_WS_ECHO" group:"process" help:"Serve /debug/ws-echo on --ops: a WebSocket that says what it hears, for conformance suites."`
	DrainTimeout duration `default:"25s" env:"SLUICE_DRAIN_TIMEOUT" placeholder:"TIME" group:"process" help:"How long a stopping process waits for streams to close and deliveries to finish. Default: ${default}."`
	LogFormat    string   `default:"json" enum:"json,text" env:"SLUICE_LOG_FORMAT" placeholder:"FORMAT" group:"process" help:"What the process says on standard error: json (an object a line) or text (for people). Default: ${default}."`
	AdminToken   string   `env:"SLUICE_ADMIN_TOKEN" placeholder:"TOKEN" group:"process" secret:"" help:"Token of the admin API. Default: one is made at the first start and kept in admin.token in --data."`
	BootstrapKey string   `env:"SLUICE_BOOTSTRAP_KEY" placeholder:"KEY" group:"process" secret:"" help:"API key of the first org, as sluice key new prints it. Default: one is made at the first start and printed, once."`

	Data           string  `default:"./data" env:"SLUICE_DATA" placeholder:"DIR" group:"log" help:"Keep the log and this node's secrets here; one process at a time, so on brokers each process of a machine needs its own. Default: ${default}."`
	LogMaxBytes    size    `name:"log-max-bytes" default:"0" env:"SLUICE_LOG_MAX_BYTES" placeholder:"SIZE" group:"log" help:"What the log in --data may take on disk, as in 10GiB; at least 1GiB. Past nine tenths of it publishing is answered with 503 until retention makes room; the rest is kept for what is owed already. A disk that runs low does the same. 0: no limit but the disk. Default: ${default}."`
	Brokers        brokers `env:"SLUICE_BROKERS" placeholder:"HOST:PORT,…" group:"log" help:"Keep the log on these Kafka or Redpanda brokers, which any number of processes can share. Default: in --data."`
	Prefix         string  `default:"sluice." env:"SLUICE_PREFIX" placeholder:"TEXT" group:"log" help:"What names of topics and groups begin with on the brokers, so that deployments can share a cluster. Default: ${default}."`
	SecretsKeyFile string  `env:"SLUICE_SECRETS_KEY_FILE" placeholder:"FILE" group:"log" help:"Key that webhook secrets are sealed with in the log: 32 bytes as hex or base64 (openssl rand -hex 32). To rotate it, add a new key as a line below the old one on every node and restart them, then move it to the top and restart them again: the first line seals, every line opens, and none may go. Required with --brokers, where every process needs the same keys; else made at the first start and kept in secrets.key in --data."`

	AttemptsDB string `name:"attempts-db" env:"SLUICE_ATTEMPTS_DB" placeholder:"URL" group:"log" secret:"" help:"PostgreSQL that deliveries are listed from, as postgres://user:password@host/database: one for all processes of a deployment, which keep it up in turn. It holds nothing that isn't in the log: emptied, it is made anew. Default: each process with the role api keeps an index of its own in --data."`

	IdempotencyEntries int `name:"idempotency-entries" default:"1000000" env:"SLUICE_IDEMPOTENCY_ENTRIES" placeholder:"N" group:"log" help:"How many Idempotency-Keys and event ids of the last 24 hours to remember, about 150 bytes each; past it the oldest are forgotten early, which /metrics counts. Default: ${default}."`

	kafkaFlags

	AllowHTTPEndpoints    bool     `name:"allow-http-endpoints" env:"SLUICE_ALLOW_HTTP_ENDPOINTS" group:"webhooks" help:"Accept webhook URLs with http, not just https."`
	AllowPrivateEndpoints prefixes `name:"allow-private-endpoints" env:"SLUICE_ALLOW_PRIVATE_ENDPOINTS" group:"webhooks" help:"Deliver to private addresses (loopback, 10.0.0.0/8 and so on), or with =CIDR,… to these only; accepts http too. For development and closed networks."`
	EgressProxy           proxyURL `name:"egress-proxy" env:"SLUICE_EGRESS_PROXY" placeholder:"URL" group:"webhooks" help:"Send webhooks through this proxy: http://[USER:PASSWORD@]HOST:PORT. It is asked to CONNECT to addresses, which are looked up and checked here, never to names. Every user of the machine sees a password on a command line: better in the environment, or in the config file. Default: none; HTTP_PROXY and its like count for nothing."`
	EgressBind            sources  `name:"egress-bind" env:"SLUICE_EGRESS_BIND" placeholder:"IP[,IP]" group:"webhooks" help:"Send webhooks from this address of the machine: an IPv4 one, an IPv6 one, or both. With one, addresses of the other kind aren't sent to. Default: the system chooses."`

	SMTP     smtpServer `name:"smtp" env:"SLUICE_SMTP" placeholder:"URL" group:"webhooks" secret:"" help:"Send mails to an org, at its e-mail address, when one of its endpoints fails, is disabled, or misses deliveries: smtp://USER:PASSWORD@HOST:587 (STARTTLS), smtps://USER:PASSWORD@HOST:465, or smtp://HOST:25?tls=none for plain text. Needs --mail-from; for processes with the role api. Every user of the machine sees it on a command line: better in the environment. Default: what mails would say is logged."`
	MailFrom mailFrom   `name:"mail-from" env:"SLUICE_MAIL_FROM" placeholder:"ADDRESS" group:"webhooks" help:"Whom mails are from, as in notices@example.com or Sluice <notices@example.com>."`
}

// Validate stops combinations that can't work.
func (s *settings) Validate() error {
	switch {
	case len(s.Brokers) > 0 && s.SecretsKeyFile == "":
		return errors.New("--brokers needs --secrets-key-file: every process must seal secrets with the same key; make one with: openssl rand -hex 32 > secrets.key")
	case len(s.Brokers) == 0 && !s.Roles.all():
		return fmt.Errorf("--roles %s needs --brokers: a log in --data is one process's, which does everything; share one with --brokers, or leave --roles out", s.Roles)
	case s.LogMaxBytes > 0 && len(s.Brokers) > 0:
		return errors.New("--log-max-bytes is for a log in --data: brokers have limits of their own, leave it out")
	case s.LogMaxBytes > 0 && s.LogMaxBytes < 1<<30:
		return fmt.Errorf("--log-max-bytes %s is too little: give 1GiB or more, or 0 for no limit", s.LogMaxBytes)
	case s.IdempotencyEntries < 1:
		return fmt.Errorf("--idempotency-entries %d is too few: give 1 or more", s.IdempotencyEntries)
	case s.Coalesce < 0 || time.Duration(s.Coalesce) > time.Second:
		return fmt.Errorf("--coalesce %s can't be: give 1s or less, or 0 for no waiting", time.Duration(s.Coalesce))
	case s.PerAddress < 0:
		return fmt.Errorf("--connections-per-address %d can't be: give 1 or more, or 0 for no bound", s.PerAddress)
	case s.PerOrg < 1:
		return fmt.Errorf("--connections-per-org %d can't be: give 1 or more", s.PerOrg)
	case s.OrgPatterns < 1:
		return fmt.Errorf("--patterns-per-org %d can't be: give 1 or more", s.OrgPatterns)
	case s.SMTP.set() != (s.MailFrom != ""):
		return errors.New("--smtp and --mail-from go together: give both, or none")
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key go together: give both, or none")
	}
	if s.AttemptsDB != "" {
		store, err := postgres.Open(postgres.Config{URL: s.AttemptsDB})
		if err != nil {
			return fmt.Errorf("--attempts-db: %w", err)
		}
		store.Close()
	}
	if _, err := key.Check(s.BootstrapKey); s.BootstrapKey != "" && err != nil {
		return errors.New("--bootstrap-key (SLUICE_BOOTSTRAP_KEY) is no API key: make one with: sluice key new")
	}
	return s.kafkaFlags.check(len(s.Brokers) > 0)
}

// try reads every file that the settings name.
func (s *settings) try() error {
	if s.TLSCert != "" {
		c, err := newCertificate(s.TLSCert, s.TLSKey)
		if err == nil {
			err = c.current.Load().invalid()
		}
		if err != nil {
			return err
		}
	}
	if s.SecretsKeyFile != "" {
		if _, err := loadSealer(s.SecretsKeyFile); err != nil {
			return err
		}
	}
	if err := s.EgressBind.try(); err != nil {
		return err
	}
	_, _, err := s.security()
	return err
}

// loadSealer reads the key that --secrets-key-file names.
func loadSealer(path string) (*control.Sealer, error) {
	if _, err := readSecret("--secrets-key-file", path); err != nil {
		return nil, err
	}
	s, err := control.LoadSealer(path)
	if err != nil {
		return nil, fmt.Errorf("--secrets-key-file: %w", err)
	}
	return s, nil
}

func (s *settings) node(logger *slog.Logger) nodeConfig {
	return nodeConfig{
		Listen: string(s.Listen), TLSCert: s.TLSCert, TLSKey: s.TLSKey, PerAddress: s.PerAddress, PerOrg: s.PerOrg, OrgPatterns: s.OrgPatterns, Origins: s.CORSOrigins, RegistrationClosed: s.Registration == "closed", Coalesce: time.Duration(s.Coalesce), WSCompress: s.WSCompress, WSEcho: s.DebugWSEcho, Ops: string(s.Ops), Roles: s.Roles, Data: s.Data,
		Brokers: s.Brokers, Prefix: s.Prefix, Kafka: s.kafkaFlags, SecretsKeyFile: s.SecretsKeyFile,
		IdempotencyEntries: s.IdempotencyEntries, AttemptsDB: s.AttemptsDB, LogMaxBytes: s.LogMaxBytes,
		AdminToken: s.AdminToken, BootstrapKey: s.BootstrapKey,
		HTTP: s.AllowHTTPEndpoints || s.AllowPrivateEndpoints.Set, Private: s.AllowPrivateEndpoints,
		EgressProxy: s.EgressProxy.url, EgressBind: s.EgressBind,
		SMTP: s.SMTP, MailFrom: s.MailFrom,
		Drain:  time.Duration(s.DrainTimeout),
		Logger: logger,
	}
}
