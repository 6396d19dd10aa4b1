package main

import (
	"fmt"
	"strings"
)

// welcome is what the first start on an empty log prints, once.
func welcome(base, key string) string {
	return fmt.Sprintf(`
This log is new. Its first org is org_default; this is its sandbox key, shown this once:

  %s

sluice listens on %s. Watch its events, then publish one from another terminal:

  %s
  %s

`, key, base, wscatLine(base, key, "*"), curlLine(base, key, `{"type":"rfq.created","data":{"rfq":{"id":"rfq_1"}}}`))
}

// curlLine is a shell line that publishes an event.
func curlLine(base, key, body string) string {
	return fmt.Sprintf("curl -sS %s/v1/events -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' -d '%s'", base, key, body)
}

// wscatLine is a shell line that prints events as they come.
func wscatLine(base, key, channel string) string {
	return fmt.Sprintf(`wscat -w -1 -c ws%s/v1/ws -x '{"type":"auth","token":"%s"}' -x '{"type":"subscribe","channels":["%s"]}'`,
		strings.TrimPrefix(base, "http"), key, channel)
}
