// Package smtp sends notices by SMTP.
//
//	smtp://user:password@host:587       STARTTLS, or nothing is sent
//	smtps://user:password@host:465      TLS from the first byte
//	smtp://host:25?tls=none             plain text, where that is asked for; without a password
package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	client "github.com/emersion/go-smtp"

	"sluice/pkg/notice"
)

// Server says how mails are handed over. Its password prints nowhere.
type Server struct {
	host, port     string
	user, password string
	tls            security
}

type security int

const (
	startTLS security = iota
	immediateTLS
	plainText
)

// errURL says nothing of the URL itself: it may hold a password.
var errURL = errors.New("is no address of an SMTP server: give smtp://USER:PASSWORD@HOST:587, smtps://USER:PASSWORD@HOST:465, or smtp://HOST:25?tls=none for plain text; what is special in a URL is written as %XX there")

// Parse reads a server's URL. Its errors don't repeat it.
func Parse(raw string) (*Server, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.Fragment != "" || u.Opaque != "" {
		return nil, errURL
	}
	s := &Server{host: u.Hostname(), port: u.Port()}
	if u.User != nil {
		s.user = u.User.Username()
		s.password, _ = u.User.Password()
		if s.user == "" || s.password == "" {
			return nil, errors.New("has half of a user and password: give both, or none")
		}
	}
	port := "587"
	switch {
	case u.Scheme == "smtp" && u.RawQuery == "":
	case u.Scheme == "smtp" && u.RawQuery == "tls=none":
		s.tls, port = plainText, "25"
	case u.Scheme == "smtps" && u.RawQuery == "":
		s.tls, port = immediateTLS, "465"
	default:
		return nil, errURL
	}
	if s.tls == plainText && s.user != "" {
		return nil, errors.New("would send its password in plain text: take ?tls=none out, or user and password")
	}
	if s.port == "" {
		s.port = port
	}
	if n, err := strconv.ParseUint(s.port, 10, 16); err != nil || n == 0 {
		return nil, errURL
	}
	return s, nil
}

// String leaves the password out.
func (s *Server) String() string { return net.JoinHostPort(s.host, s.port) }

// Mailer sends mails. It opens a connection for each: there are few.
type Mailer struct {
	server *Server
	from   mail.Address
	domain string      // of from: Message-IDs end with it
	trust  *tls.Config // nil: what the system trusts
}

var _ notice.Mailer = (*Mailer)(nil)

// New makes a Mailer whose mails come from an address, as in Sluice
// <notices@example.com>.
func New(server *Server, from string) (*Mailer, error) {
	addr, err := ParseFrom(from)
	if err != nil {
		return nil, err
	}
	return &Mailer{server: server, from: *addr, domain: addr.Address[strings.LastIndexByte(addr.Address, '@')+1:]}, nil
}

// ParseFrom reads an address that mails may come from.
func ParseFrom(from string) (*mail.Address, error) {
	addr, err := mail.ParseAddress(from)
	if err != nil || !sendable(addr.Address) {
		return nil, fmt.Errorf("%q is no address: give one as in notices@example.com, or Sluice <notices@example.com>", from)
	}
	return addr, nil
}

// sendable reports whether an address goes into a command as it is. Quoted ones
// and those beyond ASCII don't.
func sendable(address string) bool {
	local, domain, found := strings.Cut(address, "@")
	if !found || local == "" || domain == "" || len(address) > 254 {
		return false
	}
	return !strings.ContainsFunc(address, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`<>()[]\,;:"`, r)
	}) && !strings.Contains(domain, "@")
}

// The times that a mail may take.
const (
	perCommand = 10 * time.Second
	perMail    = 30 * time.Second
)

// Send implements notice.Mailer.
func (m *Mailer) Send(ctx context.Context, msg *notice.Mail) error {
	if !sendable(msg.To) {
		return fmt.Errorf("%w: the org's address isn't one that mail can be sent to", notice.ErrRefused)
	}
	ctx, cancel := context.WithTimeout(ctx, perMail)
	defer cancel()
	c, err := m.connect(ctx)
	if err != nil {
		return fmt.Errorf("reach SMTP server %s: %w", m.server, err)
	}
	defer c.Close()
	if err := m.signIn(c); err != nil {
		return fmt.Errorf("sign in to SMTP server %s: %w", m.server, err)
	}
	if err := c.Mail(m.from.Address, nil); err != nil {
		return fmt.Errorf("send mail from %s by %s: %w", m.from.Address, m.server, err)
	}
	if err := c.Rcpt(msg.To, nil); err != nil {
		return fmt.Errorf("send mail by %s: %w", m.server, judge(err))
	}
	w, err := c.Data()
	if err == nil {
		if _, err = w.Write(m.message(msg, time.Now())); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("send mail by %s: %w", m.server, judge(err))
	}
	_ = c.Quit() // the mail is theirs already
	return nil
}

func (m *Mailer) connect(ctx context.Context) (*client.Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(m.server.host, m.server.port))
	if err != nil {
		return nil, err
	}
	raw := conn
	context.AfterFunc(ctx, func() { raw.Close() }) // Send ends ctx; what it has sent is out then
	secure := &tls.Config{}
	if m.trust != nil {
		secure = m.trust.Clone()
	}
	secure.ServerName = m.server.host
	switch m.server.tls {
	case immediateTLS:
		conn = tls.Client(conn, secure)
	case startTLS:
		c, err := client.NewClientStartTLS(conn, secure)
		if err != nil {
			return nil, err
		}
		return limited(c), nil
	}
	return limited(client.NewClient(conn)), nil
}

func limited(c *client.Client) *client.Client {
	c.CommandTimeout, c.SubmissionTimeout = perCommand, perMail
	return c
}

// signIn says who sends, in the first way that the server knows.
func (m *Mailer) signIn(c *client.Client) error {
	if err := c.Hello(m.domain); err != nil {
		return err
	}
	s := m.server
	switch {
	case s.user == "":
		return nil
	case c.SupportsAuth(sasl.Plain):
		return c.Auth(sasl.NewPlainClient("", s.user, s.password))
	case c.SupportsAuth(sasl.Login):
		return c.Auth(&login{answers: []string{s.user, s.password}})
	}
	return errors.New("it takes neither PLAIN nor LOGIN")
}

// login is AUTH LOGIN as every server knows it: asked for the user, then for the
// password, in words of its own.
type login struct{ answers []string }

func (*login) Start() (mechanism string, first []byte, err error) { return sasl.Login, nil, nil }

func (l *login) Next([]byte) (answer []byte, err error) {
	if len(l.answers) == 0 {
		return nil, sasl.ErrUnexpectedServerChallenge
	}
	answer, l.answers = []byte(l.answers[0]), l.answers[1:]
	return answer, nil
}

// judge says what an answer about a recipient or a text means for the mail.
func judge(err error) error {
	var answer *client.SMTPError
	switch {
	case !errors.As(err, &answer), answer.Code == 530, answer.Code == 535, answer.Code == 538:
		return err // a matter of how the server is called, not of this mail
	case answer.Code >= 500:
		return fmt.Errorf("%w: %w", notice.ErrRefused, err)
	default:
		return fmt.Errorf("%w: %w", notice.ErrDeferred, err)
	}
}

// message writes the mail as it goes out. Nothing in it ends a line of the head:
// the addresses are sendable, and what isn't plain text is encoded.
func (m *Mailer) message(msg *notice.Mail, now time.Time) []byte {
	var b bytes.Buffer
	head := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	head("From", m.from.String())
	head("To", "<"+msg.To+">")
	head("Subject", mime.QEncoding.Encode("utf-8", msg.Subject))
	head("Date", now.Format(time.RFC1123Z))
	head("Message-ID", "<"+plain(msg.ID)+"@"+m.domain+">")
	head("Auto-Submitted", "auto-generated")
	head("MIME-Version", "1.0")
	head("Content-Type", "text/plain; charset=utf-8")
	head("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(msg.Text, "\n", "\r\n"))) // into memory
	_ = w.Close()
	return b.Bytes()
}

// plain leaves letters and digits.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, s)
}
