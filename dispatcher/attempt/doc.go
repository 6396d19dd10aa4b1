// Package attempt makes one request to a receiver and says how it ended. What a
// receiver does is an outcome, never an error; that an attempt was cut off by us
// is an error, and says nothing about the receiver.
//
//	attempt.go    Sender, Request, Build
//	standard.go   the headers of Standard Webhooks
//	target.go     a URL, taken apart
//	guard.go      where requests may go
//	http.go       HTTPSender: the request out, the answer in
//	conns.go      the connections that it keeps
//	outcome.go    classes, details, Retry-After
//
// Why no client of a library: net/http's is made of goroutines and contexts that
// cost three times the request itself, and fasthttp's can't be cancelled, makes
// an error of a large answer, and hides a connection that its peer has closed.
// What is left once connections are ours is small: the request is a run of
// bytes, which we write exactly as they are signed, and the answer's header is
// read by net/http's parser, the one that is least often wrong about hostile
// bytes. Bounds lie where nothing gets around them: an attempt has one deadline
// on its connection, and the connection gives no more bytes than an answer may
// have.
//
//	Send ─► guard.parse ─► conns.take ─┬────────────────► ask ─► conns.keep or drop
//	                                   └─ none ─► dial ──►
package attempt
