package attempt

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// maxURL bounds an endpoint's URL, in bytes.
const maxURL = 2048

// target is a URL, taken apart for dialling and asking.
type target struct {
	tls  bool
	host string // a name in ASCII, or an address
	addr string // host and port, to dial
	head string // host, and port unless it is the scheme's: the Host header
	path string // path and query, escaped
}

// The ways in which a URL can be no endpoint's. They are written for the person
// who sent it.
var (
	errURLLength   = errors.New("a URL has at most 2,048 bytes")
	errURLSyntax   = errors.New("not a URL: write https://host/path")
	errURLScheme   = errors.New("the URL must begin with https://")
	errURLUser     = errors.New("a URL has no user name or password here: check the signature instead")
	errURLFragment = errors.New("a URL has no fragment here: leave out # and what follows")
	errURLHost     = errors.New("the URL's host is not a host name")
	errURLNumber   = errors.New("the URL's host is a number: write an address as four decimal numbers")
	errURLPort     = errors.New("the URL's port must be 443, 80, or 1024 to 65535")
	errURLPrivate  = errors.New("the URL's host is not a public address: give one that the internet reaches, or have sluice listen bring events to a server of your own")
)

// parseTarget takes a URL apart. Whether its host may be dialled is the guard's
// to say.
func parseTarget(raw string) (target, error) {
	if len(raw) > maxURL {
		return target{}, errURLLength
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Host == "" {
		return target{}, errURLSyntax
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return target{}, errURLScheme
	}
	if u.User != nil {
		return target{}, errURLUser
	}
	if u.Fragment != "" {
		return target{}, errURLFragment
	}
	host, err := parseHost(u.Hostname())
	if err != nil {
		return target{}, err
	}
	t := target{tls: u.Scheme == "https", host: host, path: requestPath(u)}
	standard := "80"
	if t.tls {
		standard = "443"
	}
	port := u.Port()
	if port == "" {
		port = standard
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || n != 80 && n != 443 && n < 1024 {
		return target{}, errURLPort
	}
	t.addr = net.JoinHostPort(host, port)
	switch {
	case port != standard:
		t.head = t.addr
	case strings.Contains(host, ":"):
		t.head = "[" + host + "]"
	default:
		t.head = host
	}
	return t, nil
}

// parseHost gives the host as it is looked up: a name in lower-case ASCII, or an
// address in its one usual form.
func parseHost(host string) (string, error) {
	if strings.IndexFunc(host, func(r rune) bool { return r >= 0x80 }) >= 0 {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", errURLHost
		}
		host = ascii
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return "", errURLPrivate
		}
		return addr.String(), nil
	}
	host = strings.ToLower(host)
	name := strings.TrimSuffix(host, ".")
	if len(name) > 253 {
		return "", errURLHost
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", errURLHost
		}
		last = label
	}
	// What some resolvers read as an address: 127.1, 2130706433, 0x7f000001.
	digits, hex := strings.CutPrefix(last, "0x")
	if strings.Trim(digits, "0123456789") == "" || hex && strings.Trim(digits, "0123456789abcdef") == "" {
		return "", errURLNumber
	}
	return host, nil
}

// requestPath gives path and query as they were written, but for what may not
// stand in a request line.
func requestPath(u *url.URL) string {
	path := cmp.Or(u.RawPath, u.EscapedPath(), "/")
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return escape(path)
}

// escape writes what may not stand in a request line as %XX.
func escape(path string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f }
	i := 0
	for i < len(path) && plain(path[i]) {
		i++
	}
	if i == len(path) {
		return path
	}
	const hex = "0123456789ABCDEF"
	out := []byte(path[:i])
	for ; i < len(path); i++ {
		if c := path[i]; plain(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(out)
}
