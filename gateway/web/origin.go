package web

import (
	"slices"

	"github.com/valyala/fasthttp"
)

// exposed are the headers of answers that a page of another origin may read.
const exposed = "Retry-After, Idempotent-Replayed, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"

// shareWith lets a page of another origin read the answer, if that origin is
// configured. A browser keeps it from all others.
func (s *Server) shareWith(ctx *fasthttp.RequestCtx) {
	if len(s.cfg.Origins) == 0 {
		return
	}
	h := &ctx.Response.Header
	h.Add("Vary", "Origin") // whoever asks: caches are to tell them apart
	origin := ctx.Request.Header.Peek("Origin")
	if !slices.Contains(s.cfg.Origins, string(origin)) {
		return
	}
	h.SetBytesV("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", exposed)
}

// preflight tells a browser, which asks before it calls for a page of a configured
// origin, what that page may send: any headers, for it was trusted with all else.
func (s *Server) preflight(ctx *fasthttp.RequestCtx, allow string) {
	in, out := &ctx.Request.Header, &ctx.Response.Header
	if len(out.Peek("Access-Control-Allow-Origin")) == 0 || len(in.Peek("Access-Control-Request-Method")) == 0 {
		return
	}
	out.Set("Access-Control-Allow-Methods", allow)
	if wanted := in.Peek("Access-Control-Request-Headers"); len(wanted) > 0 {
		out.SetBytesV("Access-Control-Allow-Headers", wanted)
	}
	out.Set("Access-Control-Max-Age", "600")
}
