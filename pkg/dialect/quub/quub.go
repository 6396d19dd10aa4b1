// Package quub speaks Quub Exchange's API of webhooks and events.
//
//	key         Authorization: Bearer, and the key's org in X-Tenant-ID
//	auth        {"type":"auth","token":"sk_…","orgId":…} → auth.ok
//	subscribe   {"type":"subscribe","events":[…]} → subscribe.ok; cursor resumes
//	event       {eventId,eventType,timestamp,orgId,data}; on the stream with cursor
//	signature   X-Quub-Signature: t=…,v1=…, hex HMAC-SHA256 of t.body
//	retries     at once, 1 s, 5 s, 25 s, 2 min, 10 min, 1 h; then dead letter
//	disabling   by a delivery that none of these delivered, if nothing else was since its first
//	management  /events/v1/webhooks: create, list, change, delete, test, logs
//
// Source: Quub "Webhooks & Events". Its verifiers sign the JSON that they parsed
// and wrote again: data is in the form that they come to.
package quub

import (
	_ "embed"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

const name = "quub"

//go:embed openapi.json
var openAPI []byte

// Dialect is Quub's API.
var Dialect = &dialect.Dialect{
	Name:     name,
	Prefixes: []string{"/events/v1"},
	Stream:   stream,
	Routes:   routes,
	OpenAPI:  openAPI,
	Webhook:  webhook,
	Admit:    admit,
}

const tenantHeader = "X-Tenant-ID"

// admit holds a call to the org that it names: who has keys of several can't mix
// them up.
func admit(p *key.Principal, header func(name string) string) *dialect.Error {
	switch header(tenantHeader) {
	case "":
		return dialect.Invalid(dialect.Issue{Path: []string{tenantHeader}, Message: "is missing: send the id of your org in this header"})
	case p.Org:
		return nil
	}
	return &dialect.Error{Status: 403, Code: dialect.Forbidden, Message: "the key isn't of the org that " + tenantHeader + " names"}
}
