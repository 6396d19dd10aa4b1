// Package tempo speaks the API of Tempo's webhook service.
//
//	accounts    POST /auth/register → user, organization on the free plan, api_key for live; /auth/login →
//	            a session's token, also set as a cookie; /auth/logout
//	key         X-API-Key, or Authorization: Bearer; /api/v1/api-keys: create, list, delete; its own
//	            begin tempo_live_ or tempo_test_, may expire, and may be for one network
//	management  /api/v1/subscriptions: create, list, get, change, delete; /api/v1/webhooks/logs
//	owed        TRANSFER, MINT, BURN, APPROVAL: events chain.transfer …, of its network, that
//	            name its address as token, from or to; filters: amount_min, amount_max,
//	            from_address, to_address, all of which must hold
//	event       {id,type,network,timestamp,subscription_id,…members of data…}
//	signature   X-Tempo-Signature: t=…,v1=…, hex HMAC-SHA256 of t.body
//	retries     at once, 5 s, 30 s, 5 min, 1 h; then dead letter; 5 counted failures disable
//	plans       bound subscriptions, filters of each, and whether mainnet may be subscribed to;
//	            /api/v1/usage, /api/v1/plan, /api/v1/quota/warnings: a delivery counts once
//	answers     X-RateLimit-Limit, -Remaining, -Reset; errors {error,details}
//
// Source: Tempo "Webhook Service - Complete API Documentation", which says nothing of
// retries: they are as TetraFi's table has them. Its verifier signs the JSON that it
// parsed and wrote again.
package tempo

import (
	_ "embed"

	"sluice/pkg/dialect"
)

const name = "tempo"

//go:embed openapi.json
var openAPI []byte

// Dialect is Tempo's API.
var Dialect = &dialect.Dialect{
	Name:        name,
	Prefixes:    []string{"/api/v1", "/auth"},
	Routes:      routes,
	OpenAPI:     openAPI,
	Webhook:     webhook,
	Networks:    true,
	RateHeaders: true,
	AppendError: appendError,
}
