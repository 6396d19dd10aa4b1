package attempt

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// How connections leave, where the operator says more about it than nothing:
//
//	a proxy    name ─► addresses ─► guard ─► proxy ─► CONNECT address:port ─► TLS with the name
//	no proxy   name ─► addresses ─► for each: guard, source ─► connect
//	source     binds either before it connects
//
// Names are looked up here and the proxy is told an address that the guard let
// through, never a name: nobody can answer the proxy otherwise than us. What the
// receiver sees, its name in TLS and in Host, is the same.

// ErrNotMade is returned by Send when this process couldn't make an attempt, for
// as long as one may take, by no fault of the receiver. It says what is missing;
// the attempt may be made again at once.
var ErrNotMade = errors.New("attempt couldn't be made")

// What may be missing.
var (
	errShort   = fmt.Errorf("%w: this process can't open more connections (ulimit -n)", ErrNotMade)
	errProxy   = fmt.Errorf("%w: the proxy takes no connections (--egress-proxy)", ErrNotMade)
	errUnbound = fmt.Errorf("%w: this machine has no such address (--egress-bind)", ErrNotMade)
)

// errNoSource says that an address can't be sent to, since connections leave from
// the other family's only.
var errNoSource = errors.New("no address of this family to send from")

// proxyRefusal is what the proxy said about one target.
type proxyRefusal string

func (r proxyRefusal) Error() string { return string(r) }

// maxTried is how many addresses of a name are tried through a proxy.
const maxTried = 4

// source is where connections come from: of each family one address, or none
// where the other has one. Without any, the system chooses.
type source struct{ v4, v6 netip.Addr }

func newSource(from []netip.Addr) source {
	var s source
	for _, a := range from {
		if a = a.Unmap(); a.Is4() {
			s.v4 = a
		} else {
			s.v6 = a
		}
	}
	return s
}

// bind is for a Dialer's Control, where the family is known. The port stays open
// until the connection is made (IP_BIND_ADDRESS_NO_PORT), so that one port serves
// any number of receivers.
func (s source) bind(network, _ string, c syscall.RawConn) error {
	if !s.v4.IsValid() && !s.v6.IsValid() {
		return nil
	}
	from := s.v4
	if network == "tcp6" {
		from = s.v6
	}
	if !from.IsValid() {
		return errNoSource
	}
	var at syscall.Sockaddr
	if from.Is4() {
		at = &syscall.SockaddrInet4{Addr: from.As4()}
	} else {
		at = &syscall.SockaddrInet6{Addr: from.As16()}
	}
	var bound error
	if err := c.Control(func(fd uintptr) {
		leavePortOpen(int(fd))
		bound = syscall.Bind(int(fd), at)
	}); err != nil {
		return err
	}
	if bound != nil {
		return fmt.Errorf("%w: bind to %s: %w", errUnbound, from, bound)
	}
	return nil
}

// proxy makes connections by way of the operator's proxy. The password in its
// URL is in no message.
type proxy struct {
	addr     string // host and port
	request  string // what follows the first line
	dialer   net.Dialer
	resolver *net.Resolver
	guard    *Guard
	log      *slog.Logger

	mu   sync.Mutex
	said time.Time // when it was last said that the proxy takes no connections; zero: it does
}

// newProxy takes an http URL, with user and password where the proxy wants them.
func newProxy(u *url.URL, cfg *Config, guard *Guard, from source, agent string) *proxy {
	p := &proxy{
		addr:     net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")),
		request:  "User-Agent: " + agent + "\r\n",
		resolver: cfg.Resolver,
		guard:    guard,
		log:      cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		// The proxy is the operator's, and most likely on a private address.
		dialer: net.Dialer{Timeout: cfg.Dial, Resolver: cfg.Resolver, Control: from.bind},
	}
	if u.User != nil {
		password, _ := u.User.Password()
		p.request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)) + "\r\n"
	}
	return p
}

// open gives a connection to the target, through the proxy.
func (p *proxy) open(ctx context.Context, t *target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.dialer.Timeout)
	defer cancel()
	addrs, err := p.lookUp(ctx, t.host)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(t.addr)
	if err != nil {
		return nil, err
	}
	var first error
	for _, a := range addrs {
		c, err := p.tunnel(ctx, net.JoinHostPort(a.String(), port))
		if err == nil {
			return c, nil
		}
		first = cmp.Or(first, err)
		if errors.Is(err, ErrNotMade) || ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// lookUp gives the addresses of a host that may be dialled.
func (p *proxy) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = p.resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	var safe []netip.Addr
	var blocked error
	for _, a := range addrs {
		a = a.Unmap()
		if err := p.guard.addresses.SafeAddr(a); err != nil {
			blocked = err
		} else if len(safe) < maxTried {
			safe = append(safe, a)
		}
	}
	if len(safe) == 0 {
		return nil, blocked
	}
	return safe, nil
}

// tunnel asks the proxy for a connection to an address.
func (p *proxy) tunnel(ctx context.Context, to string) (net.Conn, error) {
	under, err := p.dialer.DialContext(ctx, "tcp", p.addr)
	if err != nil {
		err = fmt.Errorf("%w: %w", errProxy, err)
	} else {
		stop := context.AfterFunc(ctx, func() { under.Close() })
		if err = p.ask(under, to); !stop() {
			err = ctx.Err()
		}
		if err != nil {
			under.Close()
		}
	}
	p.note(ctx, err)
	if err != nil {
		return nil, err
	}
	return under, nil
}

// ask says CONNECT and reads what the proxy makes of it.
func (p *proxy) ask(under net.Conn, to string) error {
	if _, err := under.Write([]byte("CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n" + p.request + "\r\n")); err != nil {
		return proxyRefusal("the proxy closed the connection")
	}
	br := readers.Get().(*bufio.Reader)
	br.Reset(&conn{Conn: under, left: maxHeader})
	defer func() {
		br.Reset(nil)
		readers.Put(br)
	}()
	answer, _, err := readAnswer(br)
	switch {
	case err != nil:
		return proxyRefusal("the proxy didn't answer to CONNECT")
	case answer.status == http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: it asks for another user or password", errProxy)
	case answer.status/100 != 2:
		return proxyRefusal("the proxy answered " + statusLine(answer.status) + " to CONNECT")
	case br.Buffered() > 0:
		return errNotHTTP // whoever speaks first speaks something else
	}
	return nil
}

// sayAgain is how often it is said that the proxy takes no connections.
const sayAgain = time.Minute

// note tells the operator when the proxy begins to take no connections, each
// minute of it, and when it takes them again.
func (p *proxy) note(ctx context.Context, err error) {
	missing := errors.Is(err, ErrNotMade)
	if missing && context.Cause(ctx) == context.Canceled {
		return // it was us
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case missing && time.Since(p.said) > sayAgain:
		p.said = time.Now()
		p.log.Error("webhooks wait", "error", err)
	case !missing && !p.said.IsZero():
		p.said = time.Time{}
		p.log.Info("webhooks go out again", "proxy", p.addr)
	}
}
