// Package standardwebhooks speaks Standard Webhooks, and nothing beside it: for
// whoever has a library of theirs and no need of another API.
//
//	key         Authorization: Bearer, or X-API-Key
//	management  POST /standard-webhooks/v1/endpoints makes an endpoint; all else of it is /v1/webhooks
//	event       {type,timestamp,data}; its id is in webhook-id
//	signature   webhook-id, webhook-timestamp, webhook-signature, as every delivery carries them
//	retries     at once, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h; then dead letter
//	disabling   by a delivery that none of these delivered, if nothing else was since its first
//
// Source: the Standard Webhooks specification, 1.0.0, with the schedule that it
// gives as an example. It prescribes no calls, so there is but the one that can't be
// another dialect's.
package standardwebhooks

import (
	_ "embed"

	"sluice/pkg/dialect"
)

const name = "standardwebhooks"

//go:embed openapi.json
var openAPI []byte

// Dialect is Standard Webhooks.
var Dialect = &dialect.Dialect{
	Name:     name,
	Prefixes: []string{"/standard-webhooks"},
	Routes:   routes,
	OpenAPI:  openAPI,
	Webhook:  webhook,
}
