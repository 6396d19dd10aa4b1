// Package marketplace speaks the marketplace's published API, as far as it hands
// events to clients.
//
//	stream      GET /api/events/stream: server-sent events, named by type; data is the event's, in one line
//	resume      Last-Event-ID, or ?lastEventId=; without loss, for as long as events are kept
//	narrowed    ?types=order.*,payment.succeeded
//	list        GET /api/events?limit=&cursor=&type=&status=&from=&to= → {items:[{id,type,timestamp,data}],nextCursor}
//	errors      {code,message,issues:[{path,message}]}, codes in capitals
//
// Source: the marketplace's "Integrations & Reliability" (SSE, error model, pagination,
// QA checklist).
package marketplace

import "sluice/pkg/dialect"

const name = "marketplace"

// Dialect is the marketplace's API.
var Dialect = &dialect.Dialect{
	Name:        name,
	Prefixes:    []string{"/api"},
	Routes:      routes,
	SSE:         stream,
	AppendError: appendError,
}
