package smtp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	server "github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"sluice/pkg/notice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// office is a real SMTP server's back: it keeps what it is sent.
type office struct {
	mechanisms []string // what it takes users by; none: it takes all
	refuse     error    // what it says to a recipient
	mu         sync.Mutex
	mails      []kept
}

type kept struct {
	from, to, user string
	text           []byte
	secure         bool
}

type session struct {
	*office
	conn *server.Conn
	kept
}

func (o *office) NewSession(c *server.Conn) (server.Session, error) {
	return &session{office: o, conn: c}, nil
}

func (s *session) AuthMechanisms() []string { return s.mechanisms }

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, password string) error {
		if user != "user@x" || password != "pass:word/%" {
			return server.ErrAuthFailed
		}
		s.user = user
		return nil
	}
	switch {
	case !slices.Contains(s.mechanisms, mechanism):
	case mechanism == sasl.Plain:
		return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	case mechanism == sasl.Login:
		return &loginServer{check: check}, nil
	}
	return nil, server.ErrAuthUnknownMechanism
}

// loginServer is the server's part of AUTH LOGIN.
type loginServer struct {
	check func(user, password string) error
	step  int
	user  string
}

func (l *loginServer) Next(answer []byte) (challenge []byte, done bool, err error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(answer)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(answer))
}

func (s *session) Mail(from string, _ *server.MailOptions) error {
	if len(s.mechanisms) > 0 && s.user == "" {
		return server.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *server.RcptOptions) error {
	s.to = to
	return s.refuse
}

func (s *session) Data(r io.Reader) (err error) {
	if s.text, err = io.ReadAll(r); err != nil {
		return err
	}
	_, s.secure = s.conn.TLSConnectionState()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, s.kept)
	return nil
}

func (*session) Reset()        {}
func (*session) Logout() error { return nil }

// open has the office listen: secure from the first byte, after STARTTLS, or not.
func (o *office) open(t *testing.T, how security) (address string, trust *tls.Config) {
	t.Helper()
	https := httptest.NewTLSServer(nil) // whose certificate is for 127.0.0.1 and example.com
	https.Close()
	pool := x509.NewCertPool()
	pool.AddCert(https.Certificate())
	s := server.NewServer(o)
	s.Domain, s.ErrorLog, s.AllowInsecureAuth = "office.example", log.New(io.Discard, "", 0), false
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = ln.Addr().String()
	switch how {
	case immediateTLS:
		ln = tls.NewListener(ln, https.TLS)
	case startTLS:
		s.TLSConfig = https.TLS
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return address, &tls.Config{RootCAs: pool}
}

func mailer(t *testing.T, url string, trust *tls.Config) *Mailer {
	t.Helper()
	s, err := Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(s, "Slüice <notices@sluice.example>")
	if err != nil {
		t.Fatal(err)
	}
	m.trust = trust
	return m
}

const credentials = "user%40x:pass%3Aword%2F%25@"

func TestSend(t *testing.T) {
	for _, c := range []struct {
		name, url  string
		how        security
		mechanisms []string
		user       string
		secure     bool
	}{
		{"STARTTLS, PLAIN", "smtp://" + credentials, startTLS, []string{sasl.Plain, sasl.Login}, "user@x", true},
		{"STARTTLS, LOGIN", "smtp://" + credentials, startTLS, []string{sasl.Login}, "user@x", true},
		{"STARTTLS, nobody", "smtp://", startTLS, nil, "", true},
		{"TLS", "smtps://" + credentials, immediateTLS, []string{sasl.Plain}, "user@x", true},
		{"plain", "smtp://", plainText, nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &office{mechanisms: c.mechanisms}
			address, trust := o.open(t, c.how)
			url := c.url + address
			if c.how == plainText {
				url += "?tls=none"
			}
			text := "Grüße,\n.\nQUIT\n" + strings.Repeat("x", 1200) + "\nend\n"
			err := mailer(t, url, trust).Send(t.Context(), &notice.Mail{ID: "abc", To: "ops@example.com", Subject: "two words", Text: text})
			if err != nil {
				t.Fatal(err)
			}
			if len(o.mails) != 1 {
				t.Fatalf("%d mails", len(o.mails))
			}
			got := o.mails[0]
			if got.from != "notices@sluice.example" || got.to != "ops@example.com" || got.user != c.user || got.secure != c.secure {
				t.Errorf("from %q to %q, user %q, secure %v", got.from, got.to, got.user, got.secure)
			}
			m, body := parse(t, got.text)
			if id := m.Header.Get("Message-Id"); id != "<abc@sluice.example>" {
				t.Errorf("Message-ID %q", id)
			}
			if from, err := m.Header.AddressList("From"); err != nil || from[0].Name != "Slüice" {
				t.Errorf("From %v, %v", from, err)
			}
			if body != text {
				t.Errorf("the text is %q", body)
			}
		})
	}
}

// parse reads a mail as a mail program does.
func parse(t *testing.T, text []byte) (*mail.Message, string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	return m, strings.ReplaceAll(string(body), "\r\n", "\n")
}

// What is no plain word in a mail's head is encoded or refused: nobody writes a
// line of his own there, or a command.
func TestInjection(t *testing.T) {
	o := new(office)
	address, trust := o.open(t, startTLS)
	m := mailer(t, "smtp://"+address, trust)
	const evil = "a\r\nBcc: all@example.com\r\n\r\nText"
	if err := m.Send(t.Context(), &notice.Mail{ID: evil, To: "ops@example.com", Subject: evil, Text: "x"}); err != nil {
		t.Fatal(err)
	}
	got, body := parse(t, o.mails[0].text)
	if got.Header.Get("Bcc") != "" || body != "x\n" {
		t.Errorf("it got in: %s", o.mails[0].text)
	}
	for _, to := range []string{"", "ops", "a@b>\r\nDATA", "a@b\nc", "a b@c", "<a@b>", "a@b,c@d", `"a b"@c`, "ü@c", "a@b@c", "Ops <a@b>",
		strings.Repeat("x", 250) + "@example.com"} {
		err := m.Send(t.Context(), &notice.Mail{ID: "x", To: to, Subject: "x", Text: "x"})
		if !errors.Is(err, notice.ErrRefused) {
			t.Errorf("to %q: %v", to, err)
		}
	}
	if len(o.mails) != 1 {
		t.Errorf("%d mails", len(o.mails))
	}
}

func TestErrors(t *testing.T) {
	const secret = "pass"
	for _, c := range []struct {
		name, scheme string
		how          security
		trust        bool
		refuse       error
		credentials  string
		want         error // nil: neither
	}{
		{"no STARTTLS", "smtp", plainText, true, nil, credentials, nil},
		{"a certificate that isn't trusted", "smtp", startTLS, false, nil, credentials, nil},
		{"the same with TLS at once", "smtps", immediateTLS, false, nil, credentials, nil},
		{"a wrong password", "smtp", startTLS, true, nil, "user%40x:passage@", nil},
		{"none", "smtp", startTLS, true, nil, "", nil},
		{"no such recipient", "smtp", startTLS, true, &server.SMTPError{Code: 550, EnhancedCode: server.EnhancedCode{5, 1, 1}, Message: "no such user"}, credentials, notice.ErrRefused},
		{"greylisting", "smtp", startTLS, true, &server.SMTPError{Code: 451, EnhancedCode: server.EnhancedCode{4, 7, 1}, Message: "later"}, credentials, notice.ErrDeferred},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &office{mechanisms: []string{sasl.Plain}, refuse: c.refuse}
			address, trust := o.open(t, c.how)
			if !c.trust {
				trust = nil
			}
			err := mailer(t, c.scheme+"://"+c.credentials+address, trust).Send(t.Context(), &notice.Mail{ID: "x", To: "ops@example.com", Text: "x"})
			switch {
			case err == nil || len(o.mails) > 0:
				t.Fatalf("it was sent: %v", err)
			case c.want != nil && !errors.Is(err, c.want), c.want == nil && (errors.Is(err, notice.ErrRefused) || errors.Is(err, notice.ErrDeferred)):
				t.Errorf("%v", err)
			case strings.Contains(err.Error(), secret):
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

// A server that accepts and says nothing holds nobody up once the context ends.
func TestSilentServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, scheme := range []string{"smtp", "smtps"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := mailer(t, scheme+"://"+ln.Addr().String(), nil).Send(ctx, &notice.Mail{To: "ops@example.com"})
		if cancel(); err == nil {
			t.Error("it was sent")
		}
	}
}

func TestParse(t *testing.T) {
	for url, want := range map[string]string{
		"smtp://h":                      "h:587",
		"smtp://h:25":                   "h:25",
		"smtps://u:p@h":                 "h:465",
		"smtp://h?tls=none":             "h:25",
		"smtp://u:pass%40x@[::1]:2525/": "[::1]:2525",
	} {
		if s, err := Parse(url); err != nil || s.String() != want {
			t.Errorf("%s is %v, %v", url, s, err)
		}
	}
	for _, url := range []string{"", "h", "h:25", "http://h", "smtp://", "smtp://:25", "smtp://u@h", "smtp://:geheim@h", "smtp://u:geheim@h?tls=none",
		"smtp://h?tls=no", "smtp://h?x=1", "smtps://h?tls=none", "smtp://h:0", "smtp://h:70000", "smtp://h/x", "smtp://u:geheim%@h", "smtp://u:geheim@h:x", "smtp://h#geheim"} {
		if s, err := Parse(url); err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s is %v, %v", url, s, err)
		}
	}
	for _, from := range []string{"", "x", "a@b\r\nBcc: c@d", "a@b, c@d", "ü@x"} {
		if a, err := ParseFrom(from); err == nil {
			t.Errorf("%q is %v", from, a)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("smtp://u:geheimnis@h:25")
	f.Fuzz(func(t *testing.T, url string) {
		s, err := Parse(url)
		if err == nil && s.password != "" && len(s.password) > 6 && strings.Contains(s.String(), s.password) && !strings.Contains(s.host, s.password) {
			t.Errorf("%q prints its password: %s", url, s)
		}
	})
}
