package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"sluice/pkg/eventlog"
)

// TestSecrets rotates an endpoint's secret while a receiver verifies, with and
// without an overlap and over a restart; and then looks for every secret there was
// in all that the process wrote, said and answered.
func TestSecrets(t *testing.T) {
	t.Parallel()
	for name, args := range map[string]func(*testing.T) []string{"embedded": func(*testing.T) []string { return nil }, "kafka": kafkaArgs} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			args := append(args(t), "--data", data)
			p := startProcess(t, args)
			s := &secretStory{t: t, process: p, requests: make(chan secretRequest, 100)}
			s.tell()
			text := s.said.String() + p.messages.String()
			p.start() // what it knows now it has from the log, and from its snapshot
			s.delivered("after a restart", s.endpoints[0], []string{s.newest}, s.newest)
			s.pages()
			p.stop()
			s.search("what it said", []byte(text+s.said.String()+p.messages.String()))
			s.searchFiles(data)
			s.searchTopics(args)
			if !s.found {
				t.Error("the search finds nothing at all, not even what was published")
			}
		})
	}
}

// secretStory is a process, whoever talks to it, and the secrets that were used.
type secretStory struct {
	*process
	t         *testing.T
	requests  chan secretRequest
	endpoints []string
	newest    string
	canaries  []string
	said      bytes.Buffer // every answer but those that show a secret on purpose
	found     bool         // the marker, in a topic
}

type secretRequest struct {
	header http.Header
	body   []byte
}

func (s *secretStory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if strings.HasSuffix(r.URL.Path, "/refuses") {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, "not like this: %v", r.Header["X-Key"])
		return
	}
	s.requests <- secretRequest{r.Header, body}
}

const marker = "canary that may be found"

// ask sends a request of the public API; what comes back is kept, unless it shows a
// secret.
func (s *secretStory) ask(method, path, body string, status int) {
	s.t.Helper()
	var answer json.RawMessage
	if err := s.call(s.t.Context(), method, path, "application/json", []byte(body), status, &answer); err != nil {
		s.t.Fatal(err)
	}
	s.said.Write(answer)
}

// made is a request whose answer shows a secret, once.
func (s *secretStory) made(path, body string, status int) (id string) {
	s.t.Helper()
	var made webhook
	if err := s.call(s.t.Context(), "POST", path, "application/json", []byte(body), status, &made); err != nil {
		s.t.Fatal(err)
	}
	s.newest = made.Secret
	s.canaries = append(s.canaries, made.Secret)
	return made.ID
}

func (s *secretStory) tell() {
	server := httptest.NewServer(s)
	s.t.Cleanup(server.Close)
	const first, second = "Bearer canary in a header", "another canary in a header"
	given := "whsec_" + base64.StdEncoding.EncodeToString([]byte("the first canary, which was given"))
	s.canaries = append(s.canaries, s.key, first, second)
	a := s.made("/v1/webhooks", fmt.Sprintf(`{"url":"%s/a","events":["rfq.*"],"secret":%q,"headers":{"Authorization":%q}}`, server.URL, given, first), 201)
	refuses := s.made("/v1/webhooks", fmt.Sprintf(`{"url":"%s/refuses","events":["rfq.*"],"secret":"a canary that is a phrase","headers":{"X-Key":%q}}`, server.URL, first), 201)
	s.endpoints = []string{a, refuses}

	if got := s.delivered("at first", a, []string{given}, given); got.Get("Authorization") != first {
		s.t.Errorf("Authorization is %q", got.Get("Authorization"))
	}
	s.made("/v1/webhooks/"+a+"/rotate-secret", `{"overlapSeconds":3600}`, 200)
	rotated := s.newest
	s.delivered("in the overlap", a, []string{given, rotated}, given)
	s.made("/v1/webhooks/"+a+"/rotate-secret", ``, 200)
	s.delivered("in two overlaps", a, []string{given, rotated, s.newest}, given)
	s.made("/v1/webhooks/"+a+"/rotate-secret", `{"overlapSeconds":0}`, 200)
	s.ask("PATCH", "/v1/webhooks/"+a, fmt.Sprintf(`{"headers":{"x-Token":%q}}`, second), 200)
	if got := s.delivered("at once", a, []string{s.newest}, s.newest); got.Get("X-Token") != second || got.Get("Authorization") != "" {
		s.t.Errorf("headers are %v", got)
	}

	// What is wrong is named, and not repeated.
	s.canaries = append(s.canaries, "short c", "whsec_a canary of no base64", "canary\u0007with a bell", "a canary in an unknown place")
	s.ask("POST", "/v1/webhooks", fmt.Sprintf(`{"url":"%s","events":["*"],"secret":"short c"}`, server.URL), 400)
	s.ask("POST", "/v1/webhooks", fmt.Sprintf(`{"url":"%s","events":["*"],"secret":"whsec_a canary of no base64"}`, server.URL), 400)
	s.ask("PATCH", "/v1/webhooks/"+a, `{"headers":{"X-A":"canary\u0007with a bell"}}`, 400)
	s.ask("PATCH", "/v1/webhooks/"+a, `{"secret":"a canary in an unknown place"}`, 400)
	s.ask("POST", "/v1/webhooks/"+a+"/rotate-secret", `{"secret":"a canary in an unknown place"}`, 400)
	s.providers()
	s.pages()
	s.stop()
}

// providers sets secrets of those that send webhooks, and has one refused.
func (s *secretStory) providers() {
	for secret, want := range map[string]int{"whsec_a provider's canary": 200, "the canary of another": 200, "c4n4ry!": 400} {
		s.canaries = append(s.canaries, secret)
		body := strings.NewReader(fmt.Sprintf(`{"secret":%q}`, secret))
		if status := s.operate("PUT", "/admin/v1/orgs/org_default/providers/stripe", body); status != want {
			s.t.Errorf("a provider's secret of %d bytes: %d", len(secret), status)
		}
	}
	req, err := http.NewRequestWithContext(s.t.Context(), "POST", "http://"+s.address+"/api/webhooks/stripe", strings.NewReader("{}"))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%064d", time.Now().Unix(), 0))
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	io.Copy(&s.said, r.Body)
	r.Body.Close()
	if r.StatusCode != 400 {
		s.t.Errorf("what nobody signed: %s", r.Status)
	}
}

// operate makes a call of the ops server, keeps its answer, and gives its status.
func (s *secretStory) operate(method, path string, body io.Reader) int {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.args[len(s.args)-1], "admin.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.ops+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	io.Copy(&s.said, r.Body)
	return r.StatusCode
}

// delivered publishes an event and has the library of Standard Webhooks verify the
// request that the endpoint gets with every secret that there was: those that are good
// must pass, and no other.
func (s *secretStory) delivered(when, endpoint string, good []string, own string) http.Header {
	s.t.Helper()
	s.ask("POST", "/v1/events", fmt.Sprintf(`{"type":"rfq.created","data":{"is":%q}}`, marker), 202)
	var r secretRequest
	select {
	case r = <-s.requests:
	case <-time.After(time.Minute):
		s.t.Fatalf("%s nothing came in a minute", when)
	}
	for _, secret := range s.canaries {
		verifier, err := standardwebhooks.NewWebhook(secret)
		if err != nil || !strings.HasPrefix(secret, "whsec_") {
			continue
		}
		wanted := false
		for _, g := range good {
			wanted = wanted || g == secret
		}
		if passes := verifier.Verify(r.body, r.header) == nil; passes != wanted {
			s.t.Errorf("%s the secret %.12s…: verified %v, not %v", when, secret, passes, wanted)
		}
	}
	mac := hmac.New(sha256.New, []byte(own))
	mac.Write([]byte(r.header.Get("X-TetraFi-Timestamp") + "." + string(r.body)))
	if r.header.Get("X-TetraFi-Signature") != hex.EncodeToString(mac.Sum(nil)) {
		s.t.Errorf("%s the dialect's header isn't signed with %.12s…", when, own)
	}
	if got := r.header.Get("X-TetraFi-WebhookId"); got != endpoint {
		s.t.Errorf("%s it came for %s", when, got)
	}
	return r.header
}

// pages reads all that there is to read.
func (s *secretStory) pages() {
	s.t.Helper()
	s.ask("GET", "/v1/webhooks", "", 200)
	s.ask("GET", "/v1/events", "", 200)
	for _, id := range s.endpoints {
		s.ask("GET", "/v1/webhooks/"+id, "", 200)
		s.ask("POST", "/v1/webhooks/"+id+"/enable", "", 200)
		s.deliveries(id)
	}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/admin/v1/orgs", "/admin/v1/orgs/org_default", "/admin/v1/orgs/org_default/keys", "/admin/v1/orgs/org_default/providers"} {
		if status := s.operate("GET", path, nil); status != 200 {
			s.t.Errorf("%s: %d", path, status)
		}
	}
}

// deliveries reads what became of an endpoint's deliveries, with what was sent and
// answered, once there is something; headers of the owner's are there, and hidden.
func (s *secretStory) deliveries(id string) {
	s.t.Helper()
	path := "/v1/webhooks/" + id + "/deliveries"
	eventually(s.t, time.Minute, func() error {
		var page struct{ Data []struct{ ID string } }
		if err := s.call(s.t.Context(), "GET", path, "", nil, 200, &page); err != nil {
			return err
		}
		for _, d := range page.Data {
			var one json.RawMessage
			if err := s.call(s.t.Context(), "GET", path+"/"+d.ID, "", nil, 200, &one); err != nil {
				return err
			}
			s.said.Write(one)
			if bytes.Contains(one, []byte("[redacted]")) {
				return nil
			}
		}
		return fmt.Errorf("%s: %d deliveries, none shows that a header was sent", id, len(page.Data))
	})
}

// search looks for the secrets, and for what they are in other writing.
func (s *secretStory) search(where string, in []byte) {
	s.t.Helper()
	for _, secret := range s.canaries {
		forms := [][]byte{[]byte(secret), []byte(hex.EncodeToString([]byte(secret))), []byte(base64.StdEncoding.EncodeToString([]byte(secret))),
			[]byte(base64.RawURLEncoding.EncodeToString([]byte(secret)))}
		if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
			forms = append(forms, []byte(text))
			if key, err := base64.StdEncoding.DecodeString(text); err == nil {
				forms = append(forms, key, []byte(hex.EncodeToString(key)))
			}
		}
		for _, form := range forms {
			if at := bytes.Index(in, form); at >= 0 {
				s.t.Errorf("%s has %.12s…: %q", where, secret, in[max(0, at-100):min(len(in), at+len(form)+20)])
			}
		}
	}
}

func (s *secretStory) searchFiles(dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		s.search(path, b)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// searchTopics reads the whole log: files may be compressed.
func (s *secretStory) searchTopics(args []string) {
	cfg := nodeConfig{Logger: slog.New(slog.DiscardHandler)}
	for i := 0; i < len(args); i += 2 {
		switch args[i] {
		case "--data":
			cfg.Data = args[i+1]
		case "--brokers":
			cfg.Brokers = strings.Split(args[i+1], ",")
		case "--prefix":
			cfg.Prefix = args[i+1]
		}
	}
	n := &node{cfg: cfg, ops: &ops{}, metrics: prometheus.NewRegistry()}
	if err := n.openLog(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	defer n.log.Close()
	for _, topic := range topics() {
		for number := range topic.Partitions {
			p := eventlog.Partition{Topic: topic.Name, Number: number}
			at, end, err := n.log.Bounds(s.t.Context(), p)
			for at < end && err == nil {
				var records []eventlog.Record
				if records, err = n.log.Read(s.t.Context(), p, at, 1<<20); err != nil {
					break
				}
				for i := range records {
					at = records[i].Offset + 1
					s.search(topic.Name, records[i].Key)
					s.search(topic.Name, records[i].Value)
					s.found = s.found || bytes.Contains(records[i].Value, []byte(marker))
				}
				if len(records) == 0 {
					break
				}
			}
			if err != nil {
				s.t.Errorf("read %s: %v", topic.Name, err)
			}
		}
	}
}
