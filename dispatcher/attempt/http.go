package attempt

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
)

// Config says how requests are made. Zero durations and numbers stand for the
// values in brackets.
type Config struct {
	Version string // of sluice, for User-Agent

	AllowHTTP    bool           // endpoints without TLS
	AllowPrivate []netip.Prefix // addresses that may be dialled though they aren't public

	Proxy *url.URL     // of the operator, that makes the connections (http://…, CONNECT); nil: none
	From  []netip.Addr // where connections come from: an IPv4 address, an IPv6 one, or both; empty: the system chooses

	RootCAs  *x509.CertPool // nil: the system's
	Resolver *net.Resolver  // nil: the system's
	Logger   *slog.Logger   // says when the proxy takes no connections; nil: nobody does

	Total   time.Duration // from dial to status [30 s]
	Dial    time.Duration // name and connection [5 s]
	TLS     time.Duration // handshake [5 s]
	Body    time.Duration // reading on behind the header [2 s]
	Idle    time.Duration // how long an unused connection is kept [60 s]
	PerHost int           // unused connections kept to one host and port [1024: an org may have as many under way at once]
	Kept    int           // unused connections kept in all [2,048]
}

// The most that is read of an answer, in bytes.
const (
	maxHeader = 16 << 10 // with all 1xx before it
	maxBody   = 64 << 10
)

// ErrClosed is returned by Send after, or cut off by, Close.
var ErrClosed = errors.New("attempt: sender is closed")

// HTTPSender is the Sender that goes out.
type HTTPSender struct {
	cfg    Config
	agent  string
	guard  *Guard
	dialer net.Dialer
	proxy  *proxy // nil: none
	tls    *tls.Config
	conns  *conns

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex // closing
	closed bool
	sends  sync.WaitGroup
}

// NewHTTPSender gives a sender. The caller closes it.
func NewHTTPSender(cfg Config) *HTTPSender {
	cfg.Total = cmp.Or(cfg.Total, 30*time.Second)
	cfg.Dial = cmp.Or(cfg.Dial, 5*time.Second)
	cfg.TLS = cmp.Or(cfg.TLS, 5*time.Second)
	cfg.Body = cmp.Or(cfg.Body, 2*time.Second)
	s := &HTTPSender{
		cfg:   cfg,
		agent: "sluice/" + cmp.Or(cfg.Version, "dev"),
		guard: NewGuard(cfg.AllowHTTP, cfg.AllowPrivate),
		tls:   newTLSConfig(&cfg),
		conns: newConns(cmp.Or(cfg.Idle, 60*time.Second), cmp.Or(cfg.PerHost, 1024), cmp.Or(cfg.Kept, 2048)),
	}
	from := newSource(cfg.From)
	s.dialer = net.Dialer{Timeout: cfg.Dial, Resolver: cfg.Resolver, Control: func(network, address string, c syscall.RawConn) error {
		if err := s.guard.control(network, address, c); err != nil {
			return err
		}
		return from.bind(network, address, c)
	}}
	if cfg.Proxy != nil {
		s.proxy = newProxy(cfg.Proxy, &cfg, s.guard, from, s.agent)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close ends everything; see Sender.
func (s *HTTPSender) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.conns.shut()
	s.sends.Wait()
}

// Send makes one request; see Sender.
func (s *HTTPSender) Send(ctx context.Context, r *Request) (delivery.Outcome, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return delivery.Outcome{}, ErrClosed
	}
	s.sends.Add(1)
	s.mu.Unlock()
	defer s.sends.Done()

	start := time.Now()
	o := delivery.Outcome{Started: start.UTC().Round(0)}
	t, err := s.guard.parse(r.URL)
	if err != nil {
		o.Class, o.Detail = delivery.BlockedAddress, err.Error()
		return o, ctx.Err()
	}
	buf := scratch.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxScratch {
			scratch.Put(buf)
		}
	}()
	head, ok := s.appendRequest((*buf)[:0], &t, r)
	*buf = head
	if !ok {
		o.Class, o.Detail = delivery.Protocol, "a header of the request may not be sent"
		return o, ctx.Err()
	}

	at, err := s.exchange(ctx, &t, start, buf, r, &o)
	r.Exchange.Timing.Total = time.Since(start)
	if o.Class != "" {
		return o, nil
	}
	// Whatever ctx or Close cut off looks like a failure of the receiver.
	if ctx.Err() != nil {
		return delivery.Outcome{}, ctx.Err()
	}
	if s.ctx.Err() != nil {
		return delivery.Outcome{}, ErrClosed
	}
	if errors.Is(err, ErrNotMade) {
		return delivery.Outcome{}, err
	}
	o.Took = time.Since(start)
	o.Class, o.Detail = classify(at, err)
	return o, nil
}

// exchange sends the request in buf and reads the answer into o, whose class
// stays empty when there is none.
func (s *HTTPSender) exchange(ctx context.Context, t *target, start time.Time, buf *[]byte, r *Request, o *delivery.Outcome) (stage, error) {
	timing := &r.Exchange.Timing
	deadline := start.Add(s.cfg.Total)
	key := t.addr
	if t.tls {
		key = "s" + key
	}
	c := s.conns.take(key, deadline)
	if timing.Reused = c != nil; c == nil {
		var at stage
		var err error
		began := time.Now()
		c, at, err = s.dialPatiently(timed(ctx, timing), t, key, deadline)
		timing.Connect = time.Since(began) - timing.DNS - timing.TLS
		if err != nil {
			return at, err
		}
	}
	hidden := r.Headers[min(r.shown, len(r.Headers)):]
	r.sent = appendSent(r.sent[:0], *buf, hidden)
	r.Exchange.Headers = r.sent
	stop := context.AfterFunc(ctx, c.cut)
	again, err := s.ask(c, start, buf, hidden, &r.Exchange, o)
	if stop() && again {
		s.conns.keep(c)
	} else {
		s.conns.drop(c)
	}
	return asking, err
}

// dialPatiently dials, and while it is this process that can't, waits. An attempt
// that had to wait has its whole time from then on.
func (s *HTTPSender) dialPatiently(ctx context.Context, t *target, key string, deadline time.Time) (*conn, stage, error) {
	patience := deadline
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c, at, err := s.dial(ctx, t, key, deadline)
		switch {
		case err == nil:
			return c, at, nil
		case short(err):
			if s.conns.spare() {
				continue
			}
			err = fmt.Errorf("%w: %w", errShort, err)
		case !errors.Is(err, ErrNotMade):
			return nil, at, err
		}
		if time.Until(patience) < pause {
			return nil, at, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, at, ctx.Err()
		case <-s.ctx.Done():
			return nil, at, ErrClosed
		}
		deadline = time.Now().Add(s.cfg.Total)
	}
}

// short tells whether a connection couldn't be made for want of a file to open.
// Who looks up names doesn't say so, hence the try.
func short(err error) bool {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return true
	}
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return false
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		return true
	}
	f.Close()
	return false
}

// dial makes a connection, shaken hands included.
func (s *HTTPSender) dial(ctx context.Context, t *target, key string, deadline time.Time) (*conn, stage, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()

	var under net.Conn
	var err error
	if s.proxy != nil {
		under, err = s.proxy.open(ctx, t)
	} else {
		under, err = s.dialer.DialContext(ctx, "tcp", t.addr)
	}
	if err != nil {
		return nil, dialling, err
	}
	c := &conn{Conn: under, under: under, key: key}
	if tcp, ok := under.(*net.TCPConn); ok {
		c.raw, _ = tcp.SyscallConn()
	}
	if !s.conns.add(c) {
		return nil, dialling, ErrClosed
	}
	if t.tls {
		cfg := s.tls.Clone()
		cfg.ServerName = strings.TrimSuffix(t.host, ".")
		secure := tls.Client(under, cfg)
		ctx, cancel := context.WithTimeout(ctx, s.cfg.TLS)
		defer cancel()
		began := time.Now()
		err := secure.HandshakeContext(ctx)
		shook(ctx, time.Since(began))
		if err != nil {
			s.conns.drop(c)
			return nil, shaking, err
		}
		c.Conn = secure
	}
	if err := c.SetDeadline(deadline); err != nil {
		s.conns.drop(c)
		return nil, dialling, err
	}
	return c, asking, nil
}

// ask sends the request and reads the answer. It reports whether the connection
// may be used again.
func (s *HTTPSender) ask(c *conn, start time.Time, buf *[]byte, hidden []dialect.Header, x *delivery.Exchange, o *delivery.Outcome) (again bool, err error) {
	_, sent := c.Write(*buf)
	if sent != nil && isTimeout(sent) {
		return false, sent
	}
	// A receiver may answer, and close, before it has taken the whole request:
	// then its answer counts.
	c.left = maxHeader
	wrote := time.Now()
	br := readers.Get().(*bufio.Reader)
	br.Reset(c)
	defer func() {
		br.Reset(nil)
		readers.Put(br)
	}()
	answer, first, err := readAnswer(br)
	if !first.IsZero() {
		x.Timing.FirstByte = first.Sub(wrote)
	}
	switch {
	case err == nil:
	case sent != nil:
		return false, sent
	case c.fail == io.EOF && c.left < maxHeader:
		return false, io.ErrUnexpectedEOF
	case c.fail != nil:
		// The parser tells what it missed, not why it was missing.
		return false, c.fail
	default:
		return false, err
	}
	now := time.Now()
	o.Took, o.Status = now.Sub(start), answer.status

	if o.Status != http.StatusSwitchingProtocols && answer.body != http.NoBody {
		c.left = maxBody
		if c.SetReadDeadline(now.Add(s.cfg.Body)) == nil {
			x.Answer, again = readBody(answer.body, *buf)
			x.Answer = withoutEchoes(x.Answer, hidden)
		}
	} else {
		again = o.Status != http.StatusSwitchingProtocols
	}
	o.Class = delivery.Delivered
	if o.Status < 200 || o.Status > 299 {
		o.Class, o.Detail = delivery.HTTPError, refusal(o.Status, x.Answer)
	}
	if o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable {
		o.RetryAt = retryAt(answer.retryAfter, o.Started.Add(o.Took))
	}
	return again && sent == nil && !answer.closes && br.Buffered() == 0, nil
}

// appendRequest adds the request as it goes out. It reports false if a header
// can't go out as it is: names and values are never changed to fit.
func (s *HTTPSender) appendRequest(dst []byte, t *target, r *Request) ([]byte, bool) {
	dst = append(dst, "POST "...)
	dst = append(dst, t.path...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, t.head...)
	dst = append(dst, "\r\nUser-Agent: "...)
	dst = append(dst, s.agent...)
	dst = append(dst, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Body)), 10)
	dst = append(dst, "\r\n"...)
	for i := range r.Headers {
		h := &r.Headers[i]
		if !validName(h.Name) || !isLine(h.Value) {
			return dst, false
		}
		dst = append(dst, h.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, h.Value...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	return append(dst, r.Body...), true
}

// reserved are the headers that decide how a request is framed, or are the
// sender's own.
var reserved = []string{"Host", "User-Agent", "Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "TE", "Trailer"}

func validName(name string) bool {
	if name == "" {
		return false
	}
	if !isToken(name) {
		return false
	}
	for _, r := range reserved {
		if len(r) == len(name) && strings.EqualFold(r, name) {
			return false
		}
	}
	return true
}

// isToken tells whether a name has no character that a header's may not have.
func isToken[T string | []byte](name T) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return true
}

// isLine tells whether a value has no byte that could end its line, or the header.
func isLine[T string | []byte](value T) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
