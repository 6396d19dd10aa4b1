package main

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"sluice/pkg/notice/smtp"
)

// address is a host and a port to listen on or to call.
type address string

func (a *address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is no address: give host:port, as in 127.0.0.1:8080, or :8080 for every interface", text)
	}
	*a = address(net.JoinHostPort(host, port))
	return nil
}

// duration is a time span that is never negative.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration: give a number and a unit, as in 500ms, 25s or 2m", text)
	}
	*d = duration(v)
	return nil
}

func (d duration) String() string { return time.Duration(d).String() }

// size is a number of bytes.
type size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}, {"", 1}}

func (n *size) UnmarshalText(text []byte) error {
	for _, unit := range sizeUnits {
		digits, found := strings.CutSuffix(string(text), unit.name)
		if !found {
			continue
		}
		v, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || v < 0 || v > math.MaxInt64/unit.bytes {
			break
		}
		*n = size(v * unit.bytes)
		return nil
	}
	return fmt.Errorf("%q is no size: give a whole number and a unit, as in 500MB or 10GiB", text)
}

func (n size) String() string {
	for _, unit := range sizeUnits[:4] {
		if n > 0 && int64(n)%unit.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(n)/unit.bytes, unit.name)
		}
	}
	return strconv.FormatInt(int64(n), 10)
}

// brokers is a list of host:port.
type brokers []string

func (b *brokers) UnmarshalText(text []byte) error {
	*b = nil
	for s := range strings.SplitSeq(string(text), ",") {
		var a address
		if a.UnmarshalText([]byte(strings.TrimSpace(s))) != nil {
			return fmt.Errorf("%q is no broker: give host:port, or several with commas between, as in kafka-1:9092,kafka-2:9092", s)
		}
		*b = append(*b, string(a))
	}
	return nil
}

func (b brokers) String() string { return strings.Join(b, ",") }

// origins are web origins, as browsers write them.
type origins []string

func (o *origins) UnmarshalText(text []byte) error {
	*o = nil
	if len(text) == 0 {
		return nil
	}
	for s := range strings.SplitSeq(string(text), ",") {
		s = strings.ToLower(strings.TrimSpace(s))
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || s != u.Scheme+"://"+u.Host || strings.HasSuffix(s, ":"+defaultPorts[u.Scheme]) {
			return fmt.Errorf("%q is no web origin: give it as browsers do, as in https://app.example.com or http://localhost:3000, or several with commas between", s)
		}
		*o = append(*o, s)
	}
	return nil
}

// defaultPorts are those that browsers leave out.
var defaultPorts = map[string]string{"https": "443", "http": "80"}

func (o origins) String() string { return strings.Join(o, ",") }

// smtpServer is where mails go out. Neither its errors nor what it prints have its
// password.
type smtpServer struct{ *smtp.Server }

func (s *smtpServer) UnmarshalText(text []byte) error {
	*s = smtpServer{}
	if len(text) == 0 {
		return nil
	}
	server, err := smtp.Parse(string(text))
	s.Server = server
	return err
}

func (s smtpServer) set() bool { return s.Server != nil }

func (s smtpServer) String() string {
	if !s.set() {
		return ""
	}
	return s.Server.String()
}

// mailFrom is an address that mails are from.
type mailFrom string

func (m *mailFrom) UnmarshalText(text []byte) error {
	if *m = mailFrom(text); len(text) == 0 {
		return nil
	}
	_, err := smtp.ParseFrom(string(text))
	return err
}

// prefixes is a flag that may be given alone, for every address, or with the
// address ranges that it is about.
type prefixes struct {
	Set    bool
	Ranges []netip.Prefix // empty: every address
}

// IsBool says that the flag needs no value.
func (*prefixes) IsBool() bool { return true }

// Decode reads the flag's value, where it has one.
func (p *prefixes) Decode(ctx *kong.DecodeContext) error {
	*p = prefixes{Set: true}
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		return nil
	}
	text := fmt.Sprint(ctx.Scan.Pop().Value)
	switch text {
	case "true", "yes", "1":
		return nil
	case "false", "no", "0":
		p.Set = false
		return nil
	}
	for s := range strings.SplitSeq(text, ",") {
		r, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("%q is no address range: give CIDR ranges with commas between, as in 10.0.0.0/8,fd00::/8, or no value for every address", s)
		}
		p.Ranges = append(p.Ranges, r.Masked())
	}
	return nil
}

func (p prefixes) String() string {
	if !p.Set || len(p.Ranges) == 0 {
		return strconv.FormatBool(p.Set)
	}
	var ranges []string
	for _, r := range p.Ranges {
		ranges = append(ranges, r.String())
	}
	return strings.Join(ranges, ",")
}

// proxyURL is a proxy for HTTP. It prints without its password.
type proxyURL struct{ url *url.URL }

func (p *proxyURL) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		// The password may be what can't be read.
		shown := string(text)
		if at := strings.LastIndexByte(shown, '@'); at >= 0 {
			shown = "…" + shown[at:]
		}
		return fmt.Errorf("%q is no proxy: give http://host:port, or http://user:password@host:port with %%XX for what a URL can't hold, as in http://10.0.0.5:3128", shown)
	}
	p.url = u
	return nil
}

func (p proxyURL) String() string {
	if p.url == nil {
		return ""
	}
	return p.url.Redacted()
}

// sources are addresses that connections come from: one of a family at most.
type sources []netip.Addr

func (s *sources) UnmarshalText(text []byte) error {
	*s = nil
	for part := range strings.SplitSeq(string(text), ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		if a = a.Unmap(); err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("%q is no address to send from: give one of this machine's, as in 10.0.0.7, or one of each kind, as in 10.0.0.7,fd00::7", part)
		}
		for _, other := range *s {
			if other.Is4() == a.Is4() {
				return fmt.Errorf("%s and %s are of one kind: give one IPv4 and one IPv6 address at most", other, a)
			}
		}
		*s = append(*s, a)
	}
	return nil
}

func (s sources) String() string {
	var all []string
	for _, a := range s {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

// try finds out whether this machine has the addresses.
func (s sources) try() error {
	for _, a := range s {
		l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
		if err != nil {
			return fmt.Errorf("--egress-bind: %w: give addresses that this machine has (ip addr)", err)
		}
		l.Close()
	}
	return nil
}
