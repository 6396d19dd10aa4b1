// Package tenzro speaks the API of Tenzro's events service.
//
//	key         Authorization: Bearer, or X-API-Key; on the stream, in subscribe
//	subscribe   {"type":"subscribe","events":[…],"apiKey":…} → subscribed; cursor resumes
//	event       {id,type,timestamp,data}; on the stream with cursor
//	signature   X-Tenzro-Signature: hex HMAC-SHA256 of the body; X-Tenzro-Timestamp beside it
//	retries     at once, 5 s, 30 s, 5 min, 1 h; then dead letter; 5 counted failures disable
//	management  /api/events/webhook: create, list, delete, enable; answers in {"data":…}
//
// Source: Tenzro "Events Service API", which says nothing of retries: they are as
// TetraFi's table has them.
package tenzro

import (
	_ "embed"

	"sluice/pkg/dialect"
)

const name = "tenzro"

//go:embed openapi.json
var openAPI []byte

// Dialect is Tenzro's API.
var Dialect = &dialect.Dialect{
	Name:     name,
	Prefixes: []string{"/api/events/webhook", "/events/stream"},
	Stream:   stream,
	Routes:   routes,
	OpenAPI:  openAPI,
	Webhook:  webhook,
}
