package attempt

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"sluice/pkg/delivery"
)

// Config says how requests are made. Zero durations and sizes stand for the
// values in brackets.
type Config struct {
	Version string // of sluice, for User-Agent

	AllowHTTP    bool           // endpoints without TLS
	AllowPrivate []netip.Prefix // addresses that may be dialled though they aren't public

	RootCAs *x509.CertPool // nil: the system's

	Total   time.Duration // from dial to status [30 s]
	Dial    time.Duration // name and connection [5 s]
	TLS     time.Duration // handshake [5 s]
	Body    time.Duration // reading on after the status [2 s]
	Idle    time.Duration // a kept connection unused [60 s]
	PerHost int           // connections to one host and port [32]
}

// HTTPSender is the Sender that goes out.
type HTTPSender struct{ cfg Config }

// NewHTTPSender gives a sender. The caller closes it.
func NewHTTPSender(cfg Config) *HTTPSender { return &HTTPSender{cfg: cfg} }

// Send makes one request; see Sender.
func (s *HTTPSender) Send(ctx context.Context, r *Request) (delivery.Outcome, error) {
	panic("being built")
}

// Close ends everything; see Sender.
func (s *HTTPSender) Close() {}
