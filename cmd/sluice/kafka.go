package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"

	"sluice/pkg/eventlog/kafka"
)

// kafkaFlags say how this process talks to the brokers, and who it is there.
type kafkaFlags struct {
	TLS          bool      `name:"kafka-tls" env:"SLUICE_KAFKA_TLS" group:"kafka" help:"Talk to the brokers over TLS. Implied by the three below."`
	CA           string    `name:"kafka-tls-ca" env:"SLUICE_KAFKA_TLS_CA" placeholder:"FILE" group:"kafka" help:"Trust brokers whose certificate one of these (PEM) has signed. Default: what the system trusts."`
	Cert         string    `name:"kafka-tls-cert" env:"SLUICE_KAFKA_TLS_CERT" placeholder:"FILE" group:"kafka" help:"Show the brokers this certificate (PEM), with --kafka-tls-key. Read again for each connection."`
	Key          string    `name:"kafka-tls-key" env:"SLUICE_KAFKA_TLS_KEY" placeholder:"FILE" group:"kafka" help:"Its private key (PEM)."`
	SASL         mechanism `name:"kafka-sasl" env:"SLUICE_KAFKA_SASL" placeholder:"MECHANISM" group:"kafka" help:"Sign in to the brokers by plain, scram-sha-256 or scram-sha-512. Default: don't."`
	User         string    `name:"kafka-sasl-user" env:"SLUICE_KAFKA_SASL_USER" placeholder:"NAME" group:"kafka" help:"Who to sign in as."`
	PasswordFile string    `name:"kafka-sasl-password-file" env:"SLUICE_KAFKA_SASL_PASSWORD_FILE" placeholder:"FILE" group:"kafka" help:"File with the password; a line end behind it doesn't count."`
	Password     string    `name:"kafka-sasl-password" env:"SLUICE_KAFKA_SASL_PASSWORD" placeholder:"TEXT" group:"kafka" secret:"" help:"The password itself. Every user of the machine sees it on a command line: better in the environment, or in a file."`
}

// mechanism is a way to sign in; empty: none.
type mechanism string

func (m *mechanism) UnmarshalText(text []byte) error {
	known := []string{"plain", "scram-sha-256", "scram-sha-512"}
	name := strings.ToLower(string(text))
	if !slices.Contains(known, name) {
		return fmt.Errorf("%q is no mechanism: give one of %s", text, strings.Join(known, ", "))
	}
	*m = mechanism(name)
	return nil
}

// check stops combinations that can't work.
func (f *kafkaFlags) check(brokers bool) error {
	password := cmp.Or(f.PasswordFile, f.Password) != ""
	switch {
	case *f != kafkaFlags{} && !brokers:
		return errors.New("--kafka-… flags are about brokers, and there are none: give --brokers too, or leave them out")
	case (f.Cert == "") != (f.Key == ""):
		return errors.New("--kafka-tls-cert and --kafka-tls-key go together: give both, or none")
	case f.PasswordFile != "" && f.Password != "":
		return errors.New("--kafka-sasl-password-file and --kafka-sasl-password both say the password: give one of them")
	case f.SASL == "" && (f.User != "" || password):
		return errors.New("--kafka-sasl-user and a password do nothing alone: say how to sign in with --kafka-sasl, as in --kafka-sasl scram-sha-512")
	case f.SASL != "" && (f.User == "" || !password):
		return fmt.Errorf("--kafka-sasl %s needs --kafka-sasl-user and --kafka-sasl-password-file", f.SASL)
	}
	return nil
}

// security reads the files that the flags name. nil: plain text; no sign-in.
func (f *kafkaFlags) security() (*tls.Config, *kafka.SASL, error) {
	config, err := f.tls()
	if err != nil || f.SASL == "" {
		return config, nil, err
	}
	password := f.Password
	if f.PasswordFile != "" {
		text, err := readSecret("--kafka-sasl-password-file", f.PasswordFile)
		if err != nil {
			return nil, nil, err
		}
		if password = strings.TrimRight(text, "\r\n"); password == "" {
			return nil, nil, fmt.Errorf("--kafka-sasl-password-file: %s is empty: write the password into it", f.PasswordFile)
		}
	}
	return config, &kafka.SASL{Mechanism: string(f.SASL), User: f.User, Password: password}, nil
}

func (f *kafkaFlags) secure() bool { return f.TLS || f.CA != "" || f.Cert != "" }

func (f *kafkaFlags) tls() (*tls.Config, error) {
	if !f.secure() {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("--kafka-tls-ca: %w: name a file that this process can read", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--kafka-tls-ca: %s holds no certificate: give a PEM file, which has lines -----BEGIN CERTIFICATE-----", f.CA)
		}
	}
	if f.Cert != "" {
		load := func() (*tls.Certificate, error) {
			p, err := loadPair("--kafka-tls-cert", f.Cert, "--kafka-tls-key", f.Key)
			if err == nil {
				err = p.invalid()
			}
			if err != nil {
				return nil, err
			}
			return &p.Certificate, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		// Renewed files are used from the next connection on.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return config, nil
}

// config says how to open the log on brokers.
func (f *kafkaFlags) config(brokers []string, prefix string, logger *slog.Logger) (kafka.Config, error) {
	security, sasl, err := f.security()
	return kafka.Config{Brokers: brokers, Prefix: prefix, Topics: topics(), TLS: security, SASL: sasl, Logger: logger}, err
}

// brokersError says why the log on brokers can't be opened, and what to do.
func (f *kafkaFlags) brokersError(err error) error {
	if remedy := f.remedy(err); remedy != "" {
		err = fmt.Errorf("%w: %s", err, remedy)
	}
	return fmt.Errorf("--brokers: %w", err)
}

// remedy says which flag mends a failed start on brokers.
func (f *kafkaFlags) remedy(err error) string {
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		invalid  x509.CertificateInvalidError
		notTLS   tls.RecordHeaderError
		rejected *net.OpError
	)
	switch {
	case errors.Is(err, kafka.ErrSignIn) && f.SASL == "":
		return "these brokers want to know who is there: give --kafka-sasl, --kafka-sasl-user and --kafka-sasl-password-file"
	case errors.Is(err, kafka.ErrSignIn):
		return fmt.Sprintf("see to --kafka-sasl (%s), --kafka-sasl-user (%s) and the password", f.SASL, f.User)
	case errors.Is(err, kafka.ErrFilling):
		return "a migration to this --prefix is under way, or was given up: let it end, or give it again with --again, which deletes first what it made"
	case errors.Is(err, kafka.ErrUsed):
		return "migrate to another --prefix, or, if nobody needs what is in them, delete them first (kafka-topics --delete --topic NAME)"
	case errors.Is(err, kafka.ErrMayNotCreate):
		return "let this user create topics, or create them yourself: sluice topics prints how"
	case errors.As(err, &unknown):
		return "give the brokers' certificate authority with --kafka-tls-ca"
	case errors.As(err, &name), errors.As(err, &invalid):
		return "name brokers in --brokers as their certificates do, and see to the certificates' dates"
	case errors.As(err, &notTLS):
		return "these brokers don't speak TLS on this port: give another port in --brokers, or leave --kafka-tls out"
	case errors.As(err, &rejected) && rejected.Op == "remote error": // a TLS alert
		return "the brokers refuse this client's certificate, or miss one: see to --kafka-tls-cert"
	case errors.Is(err, kafka.ErrNoAnswer):
		wants := "want --kafka-tls"
		if f.secure() {
			wants = "speak TLS on this port (--kafka-tls)"
		}
		if f.SASL == "" {
			wants += ", or want --kafka-sasl"
		}
		return "are they running, is the address right as seen from here, and do they " + wants + "?"
	}
	return ""
}
