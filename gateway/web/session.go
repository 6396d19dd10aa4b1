package web

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
)

// sessionCookie has a browser bring a session with its calls. By how its name begins the
// browser knows that no other host, and nothing without TLS, may have set it.
const sessionCookie = "__Host-session"

// setCookie has the client's browser keep the session, for as long as it lasts.
func (c *Call) setCookie(s *dialect.Cookie) {
	var cookie fasthttp.Cookie
	cookie.SetKey(sessionCookie)
	cookie.SetValue(string(s.Token))
	cookie.SetPath("/")
	cookie.SetHTTPOnly(true)
	cookie.SetSecure(true)
	cookie.SetSameSite(fasthttp.CookieSameSiteLaxMode)
	if cookie.SetExpire(s.ExpiresAt); s.Token == "" {
		cookie.SetExpire(fasthttp.CookieExpireDelete)
	}
	c.Response.Header.SetCookie(&cookie)
}

// admitSession has a session be good in either environment, which its key isn't; and one
// that a browser brought of its own accord only for whose page it was.
func (s *Server) admitSession(c *Call, cookie bool) error {
	if cookie && !FromOwnPage(&c.Request.Header, string(c.Host()), s.cfg.Origins) {
		return &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "cookies from this origin aren't accepted"}
	}
	if text := c.Query("environment"); text != "" {
		env, known := event.ParseEnvironment(text)
		if !known {
			return dialect.Invalid(dialect.Issue{Path: []string{"environment"}, Message: "must be sandbox or live"})
		}
		c.Principal.Environment = env
		c.QueryArgs().Del("environment") // no route takes it
	}
	return nil
}

// FromOwnPage reports whether a request's cookies were sent for a page of the host's own
// or of one of the origins, or by what is no browser. A browser says where a page is from
// whenever another's could do harm with the cookies, or read what they get.
func FromOwnPage(h *fasthttp.RequestHeader, host string, origins []string) bool {
	origin := string(h.Peek("Origin"))
	if origin == "" {
		site := string(h.Peek("Sec-Fetch-Site"))
		return h.IsGet() || h.IsHead() || site == "" || site == "same-origin" || site == "none"
	}
	if slices.ContainsFunc(origins, func(o string) bool { return strings.EqualFold(strings.TrimSuffix(o, "/"), origin) }) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// From gives the network address that the call came from.
func (c *Call) From() string { return Network(c.RemoteIP()).String() }

// Network is whose a connection is before it says so: its address, or what one
// subscriber is given of IPv6.
func Network(ip net.IP) netip.Prefix {
	addr, _ := netip.AddrFromSlice(ip)
	bits := 64
	if addr = addr.Unmap(); addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}
