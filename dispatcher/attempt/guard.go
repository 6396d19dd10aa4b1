package attempt

import (
	"net/netip"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// Guard says where requests may go: public unicast addresses, over TLS, except
// for what the operator allows.
type Guard struct {
	http, private bool
	addresses     *ssrf.Guardian
}

// NewGuard gives a guard that lets http through if allowHTTP, and the addresses
// in allowPrivate whatever they are.
func NewGuard(allowHTTP bool, allowPrivate []netip.Prefix) *Guard {
	var v4, v6 []netip.Prefix
	for _, p := range allowPrivate {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return &Guard{
		http:      allowHTTP,
		private:   len(allowPrivate) > 0,
		addresses: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
	}
}

// CheckURL says what is wrong with the URL of an endpoint, for the person who
// sent it. It looks no name up: what a name resolves to is checked whenever it
// is dialled.
func (g *Guard) CheckURL(raw string) error {
	t, err := g.parse(raw)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(t.host); err == nil {
		if g.addresses.SafeAddr(addr.Unmap()) != nil {
			return errURLPrivate
		}
		return nil
	}
	name := strings.TrimSuffix(t.host, ".")
	if !g.private && (!strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost")) {
		return errURLPrivate
	}
	return nil
}

func (g *Guard) parse(raw string) (target, error) {
	t, err := parseTarget(raw)
	if err == nil && !t.tls && !g.http {
		err = errURLScheme
	}
	return t, err
}

// control refuses a connection before it is made: it sees the address that is
// dialled, whatever name it came from.
func (g *Guard) control(network, address string, c syscall.RawConn) error {
	return g.addresses.Safe(network, address, c)
}
