package main

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"sluice/gateway/web"
	"sluice/pkg/dialect/all"
)

// isolated is a call as its owner makes it. In braces stand ids, isolation.id, and what
// is the caller's own whoever's they are: isolation.own.
type isolated struct {
	more    string // behind the path
	body    string
	own     []int  // what its owner is answered
	foreign int    // what is answered where ids are another's, or nobody's; 0: 404
	makes   string // what it makes
	moves   bool   // it shows what each call changes
	ofOrg   bool   // it is about the org in both environments
	open    bool   // it is for whoever comes, and foreign is the answer to all
	stream  bool   // it isn't answered but goes on
}

const (
	listedBody   = `{"url":"{receiver}/%s","events":["chain.*"]}`
	subscription = `{"type":"TRANSFER","network":"mainnet","address":"` + tempoToken + `","webhook_url":"{receiver}/tempo"}`
)

// publicCalls has all that is served on the public port: a route that isn't here fails
// the test, and so does one that is here and isn't served.
var publicCalls = map[string]isolated{
	"POST /v1/events": {body: `{"type":"chain.transfer","network":"mainnet","data":{"token":"` + tempoToken + `","amount":"7","status":"{word}"},"audience":["{org}"]}`,
		own: []int{202}, foreign: 403, makes: "event", ofOrg: true},
	"GET /v1/events":                 {own: []int{200}},
	"GET /v1/events/{id}":            {own: []int{200}},
	"GET /v1/events/{id}/deliveries": {own: []int{200}},
	"GET /v1/ws, upgraded":           {stream: true},

	"POST /v1/webhooks": {body: `{"url":"{receiver}/tetrafi","events":["chain.*"],"description":"{word}","headers":{"X-Word":"{word}"}}`,
		own: []int{201}, makes: "tetrafi"},
	"GET /v1/webhooks":                     {own: []int{200}},
	"GET /v1/webhooks/{id}":                {own: []int{200}},
	"PATCH /v1/webhooks/{id}":              {body: `{"description":"changed to {word}"}`, own: []int{200}},
	"DELETE /v1/webhooks/{id}":             {own: []int{204}},
	"POST /v1/webhooks/{id}/test":          {own: []int{202}},
	"POST /v1/webhooks/{id}/enable":        {own: []int{200}},
	"POST /v1/webhooks/{id}/rotate-secret": {own: []int{200}},

	"GET /v1/webhooks/{id}/deliveries":                     {own: []int{200}},
	"GET /v1/webhooks/{id}/deliveries/{deliveryId}":        {own: []int{200}},
	"POST /v1/webhooks/{id}/deliveries/{deliveryId}/retry": {own: []int{202}},
	"POST /v1/webhooks/{id}/replay":                        {body: `{"from":"2026-01-01"}`, own: []int{202}, makes: "replay"},
	"GET /v1/webhooks/{id}/replays":                        {own: []int{200}},
	"GET /v1/webhooks/{id}/replays/{replayId}":             {own: []int{200}},
	"POST /v1/webhooks/{id}/replays/{replayId}/cancel":     {own: []int{409}}, // it has ended

	"GET /api/events":                      {more: "?status={status}", own: []int{200}, foreign: 200},
	"GET /api/events/stream":               {stream: true},
	"POST /api/webhooks/stripe":            {open: true, foreign: 400},
	"POST /api/webhooks/stripe/{org}":      {open: true, foreign: 400},
	"POST /api/webhooks/bank":              {open: true, foreign: 400},
	"POST /api/webhooks/bank/{org}":        {open: true, foreign: 400},
	"POST /api/events/webhook":             {body: fmt.Sprintf(listedBody, "tenzro"), own: []int{201}, makes: "tenzro"},
	"GET /api/events/webhook/list":         {own: []int{200}},
	"DELETE /api/events/webhook/{id}":      {own: []int{200}},
	"POST /api/events/webhook/{id}/enable": {own: []int{200}},
	"GET /api/events/stream, upgraded":     {stream: true},
	"GET /events/stream, upgraded":         {stream: true},
	"POST /events/v1/webhooks":             {body: fmt.Sprintf(listedBody, "quub"), own: []int{201}, makes: "quub"},
	"GET /events/v1/webhooks":              {own: []int{200}},
	"PATCH /events/v1/webhooks/{id}":       {body: `{"active":true}`, own: []int{200}},
	"DELETE /events/v1/webhooks/{id}":      {own: []int{204}},
	"POST /events/v1/webhooks/{id}/test":   {body: `{"eventType":"order.filled"}`, own: []int{202}},
	"GET /events/v1/webhooks/{id}/logs":    {own: []int{200}},
	"GET /events/v1/stream, upgraded":      {stream: true},
	"POST /standard-webhooks/v1/endpoints": {body: fmt.Sprintf(listedBody, "standardwebhooks"), own: []int{201}, makes: "standardwebhooks"},
	"POST /auth/register":                  {open: true, foreign: 400},
	"POST /auth/login":                     {open: true, foreign: 400},
	"POST /auth/logout":                    {own: []int{403}, foreign: 403}, // of keys; sessions end by it
	"POST /api/v1/subscriptions":           {body: subscription, own: []int{201}, makes: "tempo"},
	"GET /api/v1/subscriptions":            {own: []int{200}},
	"GET /api/v1/subscriptions/{id}":       {own: []int{200}},
	"PATCH /api/v1/subscriptions/{id}":     {body: `{"active":true}`, own: []int{200}},
	"DELETE /api/v1/subscriptions/{id}":    {own: []int{204}},
	"GET /api/v1/webhooks/logs":            {more: "?subscription_id={tempo}", own: []int{200}},
	"GET /api/v1/usage":                    {own: []int{200}, moves: true},
	"GET /api/v1/plan":                     {own: []int{200}, moves: true},
	"GET /api/v1/quota/warnings":           {own: []int{200}, moves: true},
	"POST /api/v1/api-keys":                {body: `{"name":"another","environment":"{env}"}`, own: []int{201}, makes: "key"},
	"GET /api/v1/api-keys":                 {own: []int{200}},
	"DELETE /api/v1/api-keys/{key}":        {own: []int{204}},
}

func init() {
	publicCalls["GET /openapi/"+ownName+".json"] = isolated{open: true, foreign: http.StatusOK}
	for _, d := range all.Dialects {
		publicCalls["GET /openapi/"+d.Name+".json"] = isolated{open: true, foreign: http.StatusOK}
	}
}

func labelOf(r *web.Route) string {
	if r.Upgrade {
		return r.Method + " " + r.Path + ", upgraded"
	}
	return r.Method + " " + r.Path
}

// TestIsolation makes every call there is as its owner, as another org, as the same org
// in the other environment, with a revoked key, an expired one and none, and all that by
// sessions, too, in a header and in a cookie for each environment: whatever is another's is answered to the
// letter as what never was, nothing changes by it, and nobody ever hears another's word.
func TestIsolation(t *testing.T) {
	w := newIsolation(t)
	w.classified()
	w.listen()
	w.strangers()
	w.addressed()
	w.operators()
	var all sync.WaitGroup
	for _, p := range w.parties {
		all.Go(func() { w.owner(p) })
	}
	all.Wait()
	w.canaries()
}

// classified holds publicCalls to what is served.
func (w *isolation) classified() {
	served := make(map[string]bool)
	for _, r := range w.server.Routes() {
		label := labelOf(&r)
		served[label] = true
		if _, known := publicCalls[label]; !known {
			w.t.Errorf("%s is served, and nothing says to whom: it belongs into publicCalls", label)
		}
	}
	for label := range publicCalls {
		if !served[label] {
			w.t.Errorf("%s isn't served", label)
		}
	}
}

// calls lists the calls that are answered, those that change something last.
func (w *isolation) calls() (labels []string) {
	for label, c := range publicCalls {
		if !c.stream {
			labels = append(labels, label)
		}
	}
	rank := func(label string) int {
		method, _, _ := strings.Cut(label, " ")
		return slices.Index([]string{"GET", "POST", "PATCH", "PUT", "DELETE"}, method)
	}
	slices.SortFunc(labels, func(a, b string) int { return cmp.Or(rank(a)-rank(b), strings.Compare(a, b)) })
	return labels
}

// strangers makes all calls about what is each party's, as everybody else.
func (w *isolation) strangers() {
	before := make(map[*party]string)
	for _, p := range w.parties {
		before[p] = w.portrait(p)
	}
	for _, label := range w.calls() {
		// At once, since all that find nothing wait for a look at the log, and share it.
		var all sync.WaitGroup
		for _, owner := range w.parties {
			for _, p := range w.parties {
				if p != owner && !shared(label, owner, p) {
					all.Go(func() { w.stranger(label, owner, p) })
				}
			}
			all.Go(func() { w.keyless(label, owner) })
		}
		all.Wait()
	}
	for _, p := range w.parties {
		if after := w.portrait(p); after != before[p] {
			w.t.Errorf("what %s has isn't what it was before others called:\n%s\nit was\n%s", p.name(), after, before[p])
		}
	}
}

// shared reports whether the other may, with a call, what the owner may: both are of one org.
func shared(label string, owner, other *party) bool {
	if owner.org != other.org {
		return false
	}
	takesKeys := strings.Contains(label, "{key}") && other.env == "live" // also those for the sandbox
	return takesKeys || publicCalls[label].ofOrg
}

// stranger makes a call about what is the owner's, as somebody else.
func (w *isolation) stranger(label string, owner, p *party) {
	want := cmp.Or(publicCalls[label].foreign, http.StatusNotFound)
	if ids(label) > 0 {
		w.alike(label, p.token, p, want, w.call(label, p, owner, owner), w.call(label, p, nil, nil))
	}
	if d := dialectServing(label); d != nil && d.Admit != nil && owner.org != p.org { // who calls says for whom
		own := w.call(label, p, p, p)
		a, b := w.ask(own, p.token, owner.org), w.ask(own, p.token, "org_never")
		if a.status != http.StatusForbidden || a != b {
			w.t.Errorf("%s, as %s, for another org: %s, and for one that never was %s", label, p.name(), a, b)
		}
	}
	if ids(label) > 1 { // something of one's own, and in it something of another's
		w.alike(label, p.token, p, want, w.call(label, p, p, owner), w.call(label, p, p, nil))
	}
}

// addressed has an org see an event of another's that was published to it: what became
// of that is its publisher's to see, and no call says that it was.
func (w *isolation) addressed() {
	one, two := w.parties[0], w.parties[2]
	var may apiKey
	in := map[string]any{"environment": one.env, "scopes": []string{"publish", "broadcast"}}
	w.asAdmin("POST", "/admin/v1/orgs/"+one.org+"/keys", in, &may)
	body := `{"id":"evt_addressed","type":"chain.burn","data":{},"audience":["` + two.org + `"]}`
	if a := w.ask(request{"POST", "/v1/events", body}, may.Key, one.org); a.status != http.StatusAccepted {
		w.t.Fatalf("published: %s", a)
	}
	if a := w.ask(request{method: "GET", path: "/v1/events/evt_addressed"}, two.token, two.org); a.status != http.StatusOK {
		w.t.Errorf("an event that was published to it: %s", a)
	}
	became := func(id string) request { return request{method: "GET", path: "/v1/events/" + id + "/deliveries"} }
	w.alike("what became of another's event", two.token, two, 404, became("evt_addressed"), became("evt_never"))
}

// keyless makes a call about what is the owner's, with keys that are none.
func (w *isolation) keyless(label string, owner *party) {
	want := http.StatusUnauthorized
	if c := publicCalls[label]; c.open {
		want = c.foreign
	}
	tokens := []string{owner.revoked, owner.expired, ""}
	if publicCalls[label].open { // nobody looks at them; and some may be made so many times a minute
		i := slices.Index(w.parties, owner) % len(tokens)
		tokens = tokens[i : i+1]
	}
	for _, token := range tokens {
		w.alike(label+", with no good key", token, owner, want, w.call(label, owner, owner, owner), w.call(label, owner, nil, nil))
	}
}

// alike makes a call about something that is another's, and one about what there never
// was: the answers are the same.
func (w *isolation) alike(what, token string, p *party, want int, theirs, nobodys request) {
	methods := []string{theirs.method}
	if theirs.method == http.MethodGet {
		methods = append(methods, http.MethodHead)
	}
	for _, method := range methods {
		theirs.method, nobodys.method = method, method
		var a, b answer
		var both sync.WaitGroup
		both.Go(func() { a = w.ask(theirs, token, p.org) })
		both.Go(func() { b = w.ask(nobodys, token, p.org) })
		both.Wait()
		if token == p.token {
			fmt.Fprintln(&p.heard, a)
		}
		if a.status != want || a != b {
			w.t.Errorf("%s, as %s: %s %s is answered\n%s\nand what never was\n%s\nwant %d", what, p.name(), method, theirs.path, a, b, want)
		}
	}
}

// portrait shows all that is a party's, as it sees it.
func (w *isolation) portrait(p *party) string {
	var b strings.Builder
	for _, label := range w.calls() {
		if c := publicCalls[label]; strings.HasPrefix(label, "GET ") && !c.moves {
			fmt.Fprintln(&b, label, w.ask(w.call(label, p, p, p), p.token, p.org).body)
		}
	}
	return b.String()
}

// owner makes all calls about what is a party's own, and about what never was.
func (w *isolation) owner(p *party) {
	for _, label := range w.calls() {
		c := publicCalls[label]
		if c.open || c.makes != "" && ids(label) == 0 { // furnish has
			continue
		}
		if _, session := w.sessions[p.token]; session && label == "POST /auth/logout" { // withSessions has
			continue
		}
		if ids(label) > 0 {
			w.alike(label, p.token, p, cmp.Or(c.foreign, http.StatusNotFound), w.call(label, p, nil, nil), w.call(label, p, nil, nil))
		}
		a := w.ask(w.call(label, p, p, p), p.token, p.org)
		fmt.Fprintln(&p.heard, a)
		if !slices.Contains(c.own, a.status) {
			w.t.Errorf("%s, as its owner %s: %s", label, p.name(), a)
		}
	}
}

// operators makes all calls of the admin API: with an org's key nobody may, and what is
// another org's isn't found in an org.
func (w *isolation) operators() {
	ask := func(label, token, org, other string) answer {
		method, path, _ := strings.Cut(label, " ")
		path = strings.NewReplacer("{org}", org, "{key}", other, "{provider}", "stripe", "{lane}", "0").Replace(path)
		return w.askAt(w.OpsURL(), request{method: method, path: path, body: "{}"}, token, org)
	}
	one, two := w.parties[0], w.parties[len(w.parties)-1]
	for _, label := range w.adminCalls() {
		for _, token := range []string{one.token, two.token, one.revoked, one.expired, ""} {
			if a, b := ask(label, token, one.org, one.ids["key"]), ask(label, token, "org_never", "key_never"); a.status != 401 || a != b {
				w.t.Errorf("%s, without the admin token: %s, and of an org that never was %s", label, a, b)
			}
		}
		if strings.Contains(label, "{key}") {
			if a, b := ask(label, w.AdminToken(), two.org, one.ids["key"]), ask(label, w.AdminToken(), two.org, "key_never"); a.status != 404 || a != b {
				w.t.Errorf("%s, of another org's: %s, and of what never was %s", label, a, b)
			}
		}
	}
}

var inBraces = regexp.MustCompile(`{[a-z][a-zA-Z]*}`)

// callersOwn are those braces that stand for no id.
var callersOwn = []string{"{receiver}", "{word}", "{env}"}

// ids counts the ids that a call has.
func ids(label string) (n int) {
	for _, name := range inBraces.FindAllString(label+publicCalls[label].more+publicCalls[label].body, -1) {
		if !slices.Contains(callersOwn, name) {
			n++
		}
	}
	return n
}

// call fills in the braces of a call: the first id is of first, the others of second. nil:
// nobody's.
func (w *isolation) call(label string, caller, first, second *party) request {
	w.t.Helper()
	c := publicCalls[label]
	of := first
	fill := func(s string) string {
		return inBraces.ReplaceAllStringFunc(s, func(name string) string {
			param := name[1 : len(name)-1]
			if slices.Contains(callersOwn, name) {
				return w.id(label, param, caller)
			}
			defer func() { of = second }()
			return w.id(label, param, of)
		})
	}
	method, path, _ := strings.Cut(label, " ")
	return request{method, fill(path + c.more), fill(c.body)}
}
