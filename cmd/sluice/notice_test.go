package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// postOffice is a real SMTP server: STARTTLS, and one user.
type postOffice struct {
	url, trust string // for --smtp; a file of certificates

	mu    sync.Mutex
	mails []string
}

const postPassword = "geheim-0123"

func openPostOffice(t *testing.T) *postOffice {
	t.Helper()
	https := httptest.NewTLSServer(nil)
	https.Close()
	o := &postOffice{trust: filepath.Join(t.TempDir(), "trust.pem")}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw})
	if err := os.WriteFile(o.trust, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.url = fmt.Sprintf("smtp://sluice:%s@%s", postPassword, ln.Addr())
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &postClient{office: o}, nil }))
	s.Domain, s.TLSConfig, s.ErrorLog = "post.example", &tls.Config{Certificates: https.TLS.Certificates}, log.New(io.Discard, "", 0)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return o
}

func (o *postOffice) took() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.mails...)
}

// postClient is where one client of a postOffice stands.
type postClient struct {
	office *postOffice
	known  bool
	to     string
}

func (*postClient) AuthMechanisms() []string { return []string{sasl.Plain} }

func (c *postClient) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if c.known = user == "sluice" && password == postPassword; !c.known {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (c *postClient) Mail(string, *smtp.MailOptions) error {
	if !c.known {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (c *postClient) Rcpt(to string, _ *smtp.RcptOptions) error { c.to = to; return nil }

func (c *postClient) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.office.mu.Lock()
	defer c.office.mu.Unlock()
	c.office.mails = append(c.office.mails, c.to+"\n"+string(text))
	return nil
}

func (*postClient) Reset()        {}
func (*postClient) Logout() error { return nil }

// An endpoint that answers 410 is disabled: the org's other endpoint has the event
// at once, and its people one mail, though the process is killed between.
func TestDisabledEndpointIsTold(t *testing.T) {
	onBothLogs(t, func(t *testing.T, args []string) {
		t.Parallel() // most of it is the wait for the mail
		office := openPostOffice(t)
		const admin = "an-admin-token-of-this-test"
		p := startProcess(t, append(args, "--mail-from", "Sluice <notices@sluice.example>"),
			"env", "SSL_CERT_FILE="+office.trust, "SLUICE_SMTP="+office.url, "SLUICE_ADMIN_TOKEN="+admin)
		req, _ := http.NewRequestWithContext(t.Context(), "PATCH", "http://"+p.ops+"/admin/v1/orgs/org_default", strings.NewReader(`{"email":"ops@example.com"}`))
		req.Header.Set("Authorization", "Bearer "+admin)
		req.Header.Set("Content-Type", "application/json")
		if r, err := http.DefaultClient.Do(req); err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", r, err)
		}
		gone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
		defer gone.Close()
		var mu sync.Mutex
		var events []string
		watcher := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			events = append(events, string(body))
		}))
		defer watcher.Close()
		var endpoint struct{ ID string }
		p.mustCall(t, "/v1/webhooks", fmt.Sprintf(`{"url":%q,"events":["*"]}`, gone.URL), 201, &endpoint)
		p.mustCall(t, "/v1/webhooks", fmt.Sprintf(`{"url":%q,"events":["endpoint.*"]}`, watcher.URL), 201, nil)
		p.mustCall(t, "/v1/events", `{"type":"rfq.created","data":{}}`, 202, nil)
		eventually(t, time.Minute, func() error {
			mu.Lock()
			defer mu.Unlock()
			if len(events) == 0 {
				return errors.New("nobody was told")
			}
			return nil
		})
		p.kill()
		said := p.messages.String()
		p.start()
		eventually(t, 2*time.Minute, func() error {
			if len(office.took()) == 0 {
				return errors.New("no mail")
			}
			return nil
		})
		time.Sleep(2 * time.Second) // what comes twice would come now
		if mails := office.took(); len(mails) != 1 || !strings.HasPrefix(mails[0], "ops@example.com\n") ||
			!strings.Contains(mails[0], endpoint.ID+" was disabled") || !strings.Contains(mails[0], "410 Gone") {
			t.Errorf("%d mails: %q", len(mails), mails)
		}
		var listed struct{ Data []json.RawMessage }
		if err := p.call(t.Context(), "GET", "/v1/events?types=endpoint.disabled", "", nil, 200, &listed); err != nil || len(listed.Data) != 1 ||
			!strings.Contains(string(listed.Data[0]), endpoint.ID) {
			t.Errorf("events %s, %v", listed.Data, err)
		}
		if strings.Contains(said+p.messages.String(), postPassword) {
			t.Error("the password is in the log")
		}
	})
}

func (p *process) mustCall(t *testing.T, path, body string, want int, result any) {
	t.Helper()
	if err := p.call(t.Context(), "POST", path, "application/json", []byte(body), want, result); err != nil {
		t.Fatal(err)
	}
}
