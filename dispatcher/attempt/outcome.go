package attempt

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"code.dny.dev/ssrf"

	"sluice/pkg/delivery"
)

// maxDetail bounds an outcome's detail, in bytes.
const maxDetail = 256

// maxRetryAfter is the longest wait that is taken from a Retry-After header.
const maxRetryAfter = 30 * 24 * time.Hour

var (
	errTooMuch = errors.New("the answer's header is larger than 16 KiB")
	errNotHTTP = errors.New("the answer isn't HTTP/1")
)

// stage is how far an attempt had come.
type stage uint8

const (
	dialling stage = iota
	shaking        // hands, for TLS
	asking
)

// classify tells what an error means to the person whose server it was.
func classify(at stage, err error) (delivery.Class, string) {
	var errno syscall.Errno
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var refused proxyRefusal
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork), errors.Is(err, ssrf.ErrInvalidHostPort):
		return delivery.BlockedAddress, "the host's address isn't public"
	case errors.As(err, &refused):
		return delivery.Proxy, refused.Error()
	case errors.Is(err, errNoSource):
		return delivery.Connection, "no address of the host can be sent to from here"
	case errors.As(err, &dns):
		switch {
		case dns.IsNotFound:
			return delivery.DNS, "the host's name doesn't exist"
		case dns.IsTimeout:
			return delivery.DNS, "looking up the host's name took too long"
		}
		return delivery.DNS, "the host's name could not be looked up"
	case isTimeout(err):
		switch at {
		case dialling:
			return delivery.Timeout, "no connection in time"
		case shaking:
			return delivery.TLS, "no TLS handshake in time"
		}
		return delivery.Timeout, "no answer in time"
	case at == shaking && errors.As(err, &cert):
		return delivery.TLS, clean(cert.Err.Error())
	case at == shaking && (errors.Is(err, io.EOF) || errors.As(err, &errno)):
		return delivery.TLS, "connection closed during the TLS handshake"
	case at == shaking:
		return delivery.TLS, clean(err.Error())
	case errors.As(err, &errno):
		return delivery.Connection, errno.Error()
	case errors.Is(err, io.EOF):
		return delivery.Connection, "connection closed without an answer"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return delivery.Connection, "connection closed within the answer's header"
	case errors.Is(err, errTooMuch), errors.Is(err, errNotHTTP):
		return delivery.Protocol, err.Error()
	case at == asking:
		return delivery.Protocol, clean(err.Error())
	}
	return delivery.Connection, "no connection"
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &t) && t.Timeout()
}

// refusal tells, in words, why a status is a failure.
func refusal(status int, body []byte) string {
	text := statusLine(status)
	if 300 <= status && status < 400 {
		return text + ": redirects aren't followed"
	}
	if said := strings.TrimSpace(clean(string(body[:min(len(body), maxDetail)]))); said != "" {
		text += ": " + said
	}
	return clean(text)
}

// statusLine gives a status in numbers and words.
func statusLine(status int) string {
	return strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status))
}

// clean gives s without what a terminal or a log might act on, cut to the size
// of a detail.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || r != ' ' && !unicode.IsPrint(r) {
			r = ' '
		}
		if b.Len()+utf8.RuneLen(r) > maxDetail {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// retryAt reads a Retry-After header; zero: there is none that says anything.
func retryAt(header string, now time.Time) time.Time {
	header = strings.TrimSpace(header)
	if header == "" {
		return time.Time{}
	}
	latest := now.Add(maxRetryAfter)
	if strings.Trim(header, "0123456789") == "" {
		seconds, err := strconv.ParseInt(header, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return latest
		}
		return now.Add(time.Duration(seconds) * time.Second)
	}
	t, err := http.ParseTime(header)
	switch {
	case err != nil || t.Before(now):
		return time.Time{}
	case t.After(latest):
		return latest
	}
	return t.UTC()
}
