// Package marketplace speaks the marketplace's published API: events out to its
// clients, and in from the providers of payments.
//
//	stream      GET /api/events/stream: server-sent events, named by type; data is the event's, in one line
//	resume      Last-Event-ID, or ?lastEventId=; without loss, for as long as events are kept
//	narrowed    ?types=order.*,payment.succeeded
//	list        GET /api/events?limit=&cursor=&type=&status=&from=&to= → {items:[{id,type,timestamp,data}],nextCursor}
//	stripe      POST /api/webhooks/stripe[/{org}]: Stripe-Signature t=…,v1=…, hex HMAC-SHA256 of t.body; 5 minutes
//	bank        POST /api/webhooks/bank[/{org}]: X-Bank-Signature, hex HMAC-SHA256 of the body; {id,type,data}
//	taken       as an event, once, with data {provider,providerEventId,object} → {"received":true}; again: "duplicate":true
//	errors      {code,message,issues:[{path,message}]}, codes in capitals
//
// Source: the marketplace's "Integrations & Reliability" (SSE, error model, pagination,
// QA checklist).
package marketplace

import (
	_ "embed"

	"sluice/pkg/dialect"
)

const name = "marketplace"

//go:embed openapi.json
var openAPI []byte

// Dialect is the marketplace's API.
var Dialect = &dialect.Dialect{
	Name:        name,
	Prefixes:    []string{"/api"},
	Routes:      routes,
	OpenAPI:     openAPI,
	SSE:         stream,
	Inbound:     inbound,
	AppendError: appendError,
}
