// Package attempt makes one request to a receiver and says how it ended. What a
// receiver does is an outcome, never an error; that an attempt was cut off by us
// is an error, and says nothing about the receiver.
//
//	attempt.go    Sender, Request, Build
//	standard.go   the headers of Standard Webhooks
//	ascii.go      bodies without a byte beyond ASCII
//	target.go     a URL, taken apart
//	guard.go      where requests may go
//	egress.go     through a proxy, from an address
//	http.go       HTTPSender: the request out, the answer in
//	conns.go      the connections that it keeps
//	exchange.go   what of both is kept for people
//	outcome.go    classes, details, Retry-After
//
// Why no library's client: net/http's costs about twice as much (goroutines,
// contexts and copies of headers for each request), and fasthttp's can't be
// cancelled, makes an error of a large answer, rewrites headers in silence and
// fails on a connection that its peer has closed meanwhile. CPU of 10,000 signed
// requests of 500 bytes, medians of six BenchmarkSend on two busy cores: net/http
// 0.43 s, fasthttp 0.18 s, this 0.21 s. Once the connections are ours, little is
// left to write: the request is a run of bytes, sent exactly as it was signed,
// and the answer's header is read by net/http's parser, which has met the most
// hostile bytes. Bounds lie where nothing gets around them: one deadline on the
// connection, from dial to status, and a connection that gives no more bytes
// than an answer may have.
//
// Why no HTTP/2: over TLS it costs a fifth more CPU for each request than
// keep-alive (net/http against itself, 10,000 requests: 0.36 s and 0.30 s), and
// has deliveries wait for one another on one connection.
//
//	Send ─► guard.parse ─► conns.take ─┬────────────────► ask ─► conns.keep or drop
//	                                   └─ none ─► dial ──►
package attempt
