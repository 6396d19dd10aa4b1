package attempt

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"sluice/pkg/delivery"
)

// insiders are ways to write, or to reach, what isn't a public unicast address.
// %s stands for a port on which somebody listens.
var insiders = []string{
	"127.0.0.1:%s", "127.0.0.2:%s", "[::1]:%s", "[::ffff:127.0.0.1]:%s", "[::ffff:7f00:1]:%s", "[::127.0.0.1]:%s", "0.0.0.0:%s", "[::]:%s",
	"0:%s", "127.1:%s", "127.0.1:%s", "2130706433:%s", "0x7f000001:%s", "0x7f.0.0.1:%s", "017700000001:%s", "0177.0.0.1:%s", "127.0.0.1.:%s",
	"localhost:%s", "localhost.:%s", "LOCALHOST:%s", "169.254.169.254", "[fe80::a9fe:a9fe]", "[fe80::1%%25lo]:%s", "[fd00:ec2::254]",
	"[64:ff9b::7f00:1]:%s", "[64:ff9b:1::7f00:1]:%s", "[2002:7f00:1::]:%s", "[2001:0:7f00:1::]:%s", "100.64.0.1", "198.18.0.1", "192.0.0.192",
	"10.0.0.1", "172.16.0.1", "192.168.0.1", "255.255.255.255", "224.0.0.1", "[ff02::1]",
	"0.1.2.3", "240.0.0.1", "192.0.2.1", "192.88.99.1", "198.51.100.1", "203.0.113.1", "192.31.196.1", "192.52.193.1", "192.175.48.1",
	"[2001:db8::1]", "[2620:4f:8000::1]", "[3fff::1]", "[5f00::1]", "[100::1]", "[fec0::1]", "[::ffff:169.254.169.254]", "[::ffff:0:127.0.0.1]:%s",
	"１２７.０.０.１:%s", "127。0。0。1:%s", "ⓛocalhost:%s",
}

func TestNothingInside(t *testing.T) {
	// Two listeners on one port, as far as this machine has both families.
	canary := receive(t, answer(ok))
	_, port, _ := net.SplitHostPort(canary.addr)
	canaries := []*receiver{canary}
	if l, err := net.Listen("tcp", "[::1]:"+port); err == nil {
		l.Close()
		canaries = append(canaries, receiveOn(t, "[::1]:"+port, nil, answer(ok)))
	}
	t.Setenv("HTTP_PROXY", "http://"+canary.addr)
	t.Setenv("HTTPS_PROXY", "http://"+canary.addr)
	t.Setenv("ALL_PROXY", "http://"+canary.addr)

	cfg := local()
	cfg.AllowPrivate = nil
	s := newSender(t, cfg)
	for _, host := range insiders {
		host = strings.ReplaceAll(strings.ReplaceAll(host, "%%", "%"), "%s", port)
		for _, scheme := range []string{"http", "https"} {
			o, err := s.Send(t.Context(), &Request{URL: scheme + "://" + host + "/"})
			if err != nil {
				t.Fatal(err)
			}
			if o.Class != delivery.BlockedAddress && o.Class != delivery.DNS { // not every resolver knows localhost with a dot
				t.Errorf("%s://%s: %s %q", scheme, host, o.Class, o.Detail)
			}
			if err := s.guard.CheckURL(scheme + "://" + host + "/"); err == nil {
				t.Errorf("%s://%s could be registered", scheme, host)
			}
		}
	}
	for _, c := range canaries {
		if n := c.accepts.Load(); n != 0 {
			t.Errorf("%d connections came in on %s", n, c.addr)
		}
	}
}

func TestCheckURL(t *testing.T) {
	strict := NewGuard(false, nil)
	for url, want := range map[string]error{
		"https://example.com/hook":                         nil,
		"https://example.com":                              nil,
		"https://example.com:443/a?b=c":                    nil,
		"https://hooks.example.com:8443/":                  nil,
		"https://93.184.216.34/":                           nil,
		"https://[2606:2800:220:1::1]/":                    nil,
		"HTTPS://EXAMPLE.com/":                             nil,
		"https://bücher.example/":                          nil,
		"https://my_host.example.com/":                     nil,
		"http://example.com/":                              errURLScheme,
		"ftp://example.com/":                               errURLScheme,
		"javascript:alert(1)":                              errURLSyntax,
		"/hook":                                            errURLSyntax,
		"":                                                 errURLSyntax,
		"https://":                                         errURLSyntax,
		"https:///hook":                                    errURLSyntax,
		"https://exa mple.com/":                            errURLSyntax,
		"https://example.com/\r\nX: y":                     errURLSyntax,
		"https://me:secret@example.com/":                   errURLUser,
		"https://me@example.com/":                          errURLUser,
		"https://example.com/#top":                         errURLFragment,
		"https://example.com:22/":                          errURLPort,
		"https://example.com:25/":                          errURLPort,
		"https://example.com:0/":                           errURLPort,
		"https://example.com:65536/":                       errURLPort,
		"https://" + strings.Repeat("a", 2041):             errURLLength,
		"https://" + strings.Repeat("a", 64) + ".example/": errURLHost,
		"https://a..example/":                              errURLHost,
		"https://exa!mple.com/":                            errURLHost,
		"https://intranet/":                                errURLPrivate,
		"https://app.localhost/":                           errURLPrivate,
		"https://10.1.2.3/":                                errURLPrivate,
		"https://1.2.3/":                                   errURLNumber,
	} {
		if err := strict.CheckURL(url); err != want {
			t.Errorf("%.80s: %v, want %v", url, err, want)
		}
	}
	open := NewGuard(true, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")})
	for url, want := range map[string]error{
		"http://10.1.2.3:8080/":   nil,
		"http://[::1]:8080/":      nil,
		"http://[::ffff:a01:203]": nil,
		"http://receiver:8080/":   nil,
		"http://192.168.1.1/":     errURLPrivate,
		"http://127.0.0.1/":       errURLPrivate,
	} {
		if err := open.CheckURL(url); err != want {
			t.Errorf("%s: %v, want %v", url, err, want)
		}
	}
}

func TestTarget(t *testing.T) {
	for url, want := range map[string]target{
		"https://Bücher.Example:443/ä?b=ö#":     {true, "xn--bcher-kva.example", "xn--bcher-kva.example:443", "xn--bcher-kva.example", "/%C3%A4?b=%C3%B6"},
		"http://example.com":                    {false, "example.com", "example.com:80", "example.com", "/"},
		"https://example.com:80?x":              {true, "example.com", "example.com:80", "example.com:80", "/?x"},
		"https://[2606:2800:0220:1::0001]/%7e/": {true, "2606:2800:220:1::1", "[2606:2800:220:1::1]:443", "[2606:2800:220:1::1]", "/%7e/"},
	} {
		if got, err := parseTarget(url); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", url, got, err, want)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, host := range insiders {
		f.Add("https://" + host + "/a?b c")
	}
	f.Fuzz(func(t *testing.T, raw string) {
		target, err := parseTarget(raw)
		if err != nil {
			return
		}
		for _, s := range []string{target.path, target.head, target.addr} {
			for i := range len(s) {
				if s[i] <= ' ' || s[i] >= 0x7f {
					t.Fatalf("%q gives %q", raw, s)
				}
			}
		}
		if target.path[0] != '/' {
			t.Fatalf("%q gives %q", raw, target.path)
		}
	})
}
