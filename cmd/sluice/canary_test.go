package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"sluice/pkg/dialect/all"
	"sluice/pkg/event"
)

// talks says how a client of each path subscribes to all there is.
var talks = map[string][]string{
	"/v1/ws":             {`{"type":"auth","token":"{key}"}`, `{"type":"subscribe","channels":["*"]{cursor}}`},
	"/api/events/stream": {`{"type":"subscribe","events":["*"],"apiKey":"{key}"{cursor}}`},
	"/events/stream":     {`{"type":"subscribe","events":["*"],"apiKey":"{key}"{cursor}}`},
	"/events/v1/stream":  {`{"type":"auth","token":"{key}","orgId":"{org}"}`, `{"type":"subscribe","events":["*"]{cursor}}`},
}

// visitor is whoever listens to one stream.
type visitor struct {
	w      *isolation
	of     *party // whose key it has, or had
	what   string
	socket bool // a WebSocket; else a stream of events
	path   string
	heard  lockedBuffer
}

// listen has every party listen to all streams there are, from where they begin and from
// others' places, and whoever has no key try to.
func (w *isolation) listen() {
	var visits []*visitor
	for _, d := range all.Dialects {
		if d.Stream != nil {
			for _, path := range d.Stream.Paths {
				visits = append(visits, &visitor{w: w, path: path, socket: true})
			}
		}
		if d.SSE != nil {
			for _, path := range d.SSE.Paths {
				visits = append(visits, &visitor{w: w, path: path})
			}
		}
	}
	for i, form := range visits {
		parties := w.comers(form)
		begins := make(map[*party]string)
		var first []*visitor
		for _, p := range parties {
			v := form.come(p, p.token, p.org, "")
			begins[p] = v.place()
			first = append(first, v)
		}
		for _, p := range parties {
			in := `{"type":"chain.mint","data":{"memo":"` + said(p, i) + `"}}`
			if a := w.ask(request{method: "POST", path: "/v1/events", body: in}, p.token, p.org); a.status != http.StatusAccepted {
				w.t.Fatalf("published: %s", a)
			}
			p.minted++
		}
		for _, v := range first {
			v.await(said(v.of, i))
		}
		for _, p := range parties {
			for _, q := range parties {
				switch v := form.come(p, p.token, p.org, begins[q]); {
				case p.env == q.env:
					v.await(said(p, i))
				default:
					v.await("invalid_cursor")
				}
			}
			for what, token := range map[string]string{"revoked": p.revoked, "expired": p.expired, "no": ""} {
				v := form.come(p, token, p.org, "")
				v.what += ", with " + what + " key"
				v.await("over: 401", "over: 4401", "unauthorized", `bad_request`)
			}
		}
		w.ofAnotherOrg(form)
	}
	for _, p := range w.parties {
		w.settle(p)
	}
}

// comers are the parties that can listen in that form: a message to a socket has a session
// for live, and nothing that says otherwise.
func (w *isolation) comers(form *visitor) (parties []*party) {
	for _, p := range w.parties {
		if !form.socket || w.sessions[p.token].env != event.Sandbox {
			parties = append(parties, p)
		}
	}
	return parties
}

// said is what a party says to all who listen in that form.
func said(p *party, form int) string { return fmt.Sprint(p.word, "_said_", form) }

// ofAnotherOrg names an org that the key isn't of, where clients name one: it is answered
// as one that there isn't.
func (w *isolation) ofAnotherOrg(form *visitor) {
	if !form.socket || !strings.Contains(strings.Join(talks[form.path], ""), "{org}") {
		return
	}
	one, two := w.parties[0], w.parties[len(w.parties)-1] // who has a key, and who a session
	for _, p := range []*party{one, two} {
		var said []string
		for _, org := range []string{one.org, two.org, "org_never"} {
			if org != p.org {
				v := form.come(p, p.token, org, "")
				v.await("forbidden")
				v.await("unauthorized") // what it is told last: it asks for events all the same
				said = append(said, v.heard.String())
			}
		}
		if said[0] != said[1] {
			w.t.Errorf("%s names another org, and hears %s; of one that never was %s", p.name(), said[0], said[1])
		}
	}
}

// come has a party listen as the visitor would.
func (v *visitor) come(p *party, token, org, cursor string) *visitor {
	w := v.w
	w.t.Helper()
	guest := &visitor{w: w, of: p, socket: v.socket, path: v.path, what: p.name() + " at " + v.path}
	w.visits = append(w.visits, guest)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	w.t.Cleanup(func() { cancel(); <-done })
	listen := guest.events
	if guest.socket {
		listen = guest.messages
	}
	go func() {
		defer close(done)
		fmt.Fprintln(&guest.heard, "over:", listen(ctx, token, org, cursor))
	}()
	return guest
}

// messages listens to a WebSocket, and says how it ended.
func (v *visitor) messages(ctx context.Context, token, org, cursor string) any {
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(v.w.URL(), "http")+v.path, nil)
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	if cursor != "" {
		cursor = `,"cursor":"` + cursor + `"`
	}
	talk, known := talks[v.path]
	if !known {
		return "nobody says how to talk there: it belongs into talks"
	}
	for _, message := range talk {
		message = strings.NewReplacer("{key}", token, "{org}", org, "{cursor}", cursor).Replace(message)
		if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
			break // what it was told is yet to be read
		}
	}
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return int(websocket.CloseStatus(err))
		}
		fmt.Fprintf(&v.heard, "%s\n", text)
	}
}

// events listens to a stream of events, and says how it ended.
func (v *visitor) events(ctx context.Context, token, _, cursor string) any {
	req, err := http.NewRequestWithContext(ctx, "GET", v.w.URL()+v.path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	v.w.bring(req, token)
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for r := bufio.NewReader(resp.Body); ; {
		line, err := r.ReadString('\n')
		io.WriteString(&v.heard, line)
		if err != nil {
			return resp.StatusCode
		}
	}
}

// await waits until the visitor has heard one of the texts.
func (v *visitor) await(texts ...string) {
	v.w.t.Helper()
	eventually(v.w.t, time.Minute, func() error {
		heard := v.heard.String()
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(heard, text) }) {
			return fmt.Errorf("%s heard none of %q, but %s", v.what, texts, heard)
		}
		return nil
	})
}

var aPlace = regexp.MustCompile(`(?:"cursor":"|id: ?)([\w-]+)`)

// place waits for where the visitor's stream begins.
func (v *visitor) place() string {
	v.w.t.Helper()
	var place []string
	eventually(v.w.t, time.Minute, func() error {
		if place = aPlace.FindStringSubmatch(v.heard.String()); place == nil {
			return fmt.Errorf("%s has no place to come back to: %s", v.what, v.heard.String())
		}
		return nil
	})
	return place[1]
}

// canaries looks for what is a party's alone in all that the others ever heard, and in
// what operators see.
func (w *isolation) canaries() {
	search := func(where, heard string, of *party) {
		for _, p := range w.parties {
			if p == of {
				continue
			}
			alone := append([]string{p.word, p.token, p.revoked, p.expired}, p.secrets...)
			if of != nil {
				for what, id := range p.ids {
					if what != "key" || p.org != of.org || of.env != "live" { // from live one sees both environments' keys
						alone = append(alone, id)
					}
				}
			}
			for _, text := range alone {
				if at := strings.Index(heard, text); at >= 0 {
					w.t.Errorf("%s has %s's %q: …%s…", where, p.name(), text, heard[max(0, at-200):min(len(heard), at+200)])
				}
			}
		}
	}
	for _, p := range w.parties {
		heard := p.heard.String()
		search("what was answered and delivered to "+p.name(), heard, p)
		for _, d := range all.Dialects {
			if d.Webhook != nil && !regexp.MustCompile(`delivered to \S+/`+d.Name+`:.*`+p.word).MatchString(heard) {
				w.t.Errorf("%s was delivered nothing by %s", p.name(), d.Name)
			}
		}
	}
	for _, v := range w.visits {
		search("the stream of "+v.what, v.heard.String(), v.of)
	}
	search("the log", w.log.String(), nil)
	resp, err := http.Get(w.OpsURL() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil || len(metrics) == 0 {
		w.t.Errorf("metrics: %d bytes, %v", len(metrics), err)
	}
	search("a metric", string(metrics), nil)
}
