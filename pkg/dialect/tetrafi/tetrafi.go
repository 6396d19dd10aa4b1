// Package tetrafi speaks TetraFi's published API.
//
//	auth        {"type":"auth","token":"sk_…"} → auth.ok with the environment
//	subscribe   channels are types or globs, corridors narrow them; cursor resumes
//	event       {type,id,timestamp,…members of data…,cursor}; a webhook's body is the same without cursor
//	signature   X-TetraFi-Signature: hex HMAC-SHA256 of timestamp.body
//	retries     at once, 5 s, 30 s, 5 min, 1 h; then dead letter; 5 counted failures disable
//	management  /v1/webhooks
//
// Sources: TetraFi "Real-time events" (WebSocket, webhooks, retry table).
package tetrafi

import (
	_ "embed"

	"sluice/pkg/dialect"
)

const name = "tetrafi"

//go:embed openapi.json
var openAPI []byte

// Dialect is TetraFi's API.
var Dialect = &dialect.Dialect{
	Name:     name,
	Prefixes: []string{"/v1"},
	Stream:   stream,
	Routes:   routes,
	OpenAPI:  openAPI,
	Webhook:  webhook,
}
