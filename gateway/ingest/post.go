package ingest

import (
	"context"
	"errors"
	"strings"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/key"
)

// MaxBody bounds the body of a request, in bytes.
const MaxBody = 4 << 20

// Request is a request to publish. Header gives a header's value, empty when
// there is none; several of one name are joined by commas. Nil: no headers
// beside the Content-Type. Body isn't used after Post has returned.
type Request struct {
	ContentType string
	Header      func(name string) string
	Body        []byte
}

func (r *Request) header(name string) string {
	if r.Header == nil {
		return ""
	}
	return r.Header(name)
}

// Answer is what a request to publish is answered.
type Answer struct {
	Status   int
	Body     []byte // JSON
	Replayed bool   // it was answered before; the header ReplayedHeader says so
}

// The headers of idempotency, in a request and in its answer.
const (
	KeyHeader      = "Idempotency-Key"
	ReplayedHeader = "Idempotent-Replayed"
)

// Post is POST /v1/events. The caller has authenticated the principal, and seen
// that it may publish. What it returns as an error is a *dialect.Error.
func (i *Ingest) Post(ctx context.Context, principal *key.Principal, r *Request) (*Answer, error) {
	answer, err := i.post(ctx, principal, r)
	if err != nil {
		var refused *dialect.Error
		if errors.As(err, &refused) {
			i.metrics.refused.WithLabelValues(string(refused.Code)).Inc()
		}
		return nil, err
	}
	return answer, nil
}

func (i *Ingest) post(ctx context.Context, principal *key.Principal, r *Request) (*Answer, error) {
	form, err := formOf(r)
	if err != nil {
		return nil, err
	}
	if len(r.Body) > MaxBody {
		return nil, tooLarge("the body has more than 4 MiB; send it in several requests")
	}
	idempotency := r.header(KeyHeader)
	if !visible(idempotency, maxIdempotencyKey) {
		return nil, badRequest("nothing was taken: " + KeyHeader + " must have at most 255 characters, all of them printable ASCII")
	}
	p := parser{reader: reader{b: r.Body}, principal: principal, orgExists: i.cfg.OrgExists, now: time.Now(), keyed: idempotency != ""}
	form = p.read(form, r)
	if err := p.verdict(); err != nil {
		return nil, err
	}
	t := &taking{events: p.events, given: p.given, key: idempotency, form: form, body: r.Body, now: p.now}
	if err := i.take(ctx, t); err != nil {
		return nil, err
	}
	return &Answer{Status: 202, Body: t.appendAnswer(nil), Replayed: t.replayed}, nil
}

// form is how the events of a request are written.
type form int

const (
	formJSON  form = iota
	formBatch      // {"events":[…]}, which only its body tells from formJSON
	formLines
	formCloudEvent
	formCloudBatch
	formCloudBinary // attributes in headers, data in the body
)

// batch reports whether it is answered with a list.
func (f form) batch() bool { return f == formBatch || f == formLines || f == formCloudBatch }

// formOf tells how a request is written. No media type is JSON.
func formOf(r *Request) (form, error) {
	mt, _, _ := strings.Cut(r.ContentType, ";")
	mt = strings.ToLower(strings.TrimSpace(mt))
	switch mt {
	case "application/cloudevents+json":
		return formCloudEvent, nil
	case "application/cloudevents-batch+json":
		return formCloudBatch, nil
	}
	// Without a specversion it is a CloudEvent that lacks one, rather than an event
	// of ours: else its attributes would be lost without a word.
	binary := r.header(ceHeader+"specversion") != "" || r.header(ceHeader+"id") != ""
	switch {
	case binary && jsonMedia(mt):
		return formCloudBinary, nil
	case binary:
		return 0, &dialect.Error{Status: 415, Code: dialect.Unsupported,
			Message: "the data of a CloudEvent is a JSON object here: with its attributes as headers, Content-Type must be application/json, or left out"}
	case mt == "" || mt == "application/json":
		return formJSON, nil
	case mt == "application/x-ndjson":
		return formLines, nil
	}
	return 0, &dialect.Error{Status: 415, Code: dialect.Unsupported, Message: "Content-Type must be application/json, " +
		"application/x-ndjson for an event on each line, application/cloudevents+json or application/cloudevents-batch+json"}
}

// read reads the body, and gives its form, now that all is known of it.
func (p *parser) read(f form, r *Request) form {
	switch f {
	case formLines:
		p.lines()
	case formCloudEvent:
		p.cloudEvent()
		p.end()
	case formCloudBatch:
		p.cloudBatch()
	case formCloudBinary:
		p.cloudBinary(r.header)
	default:
		if p.body() {
			return formBatch
		}
	}
	return f
}

const maxIdempotencyKey = 255

// visible reports whether s has at most so many bytes, all of them printable ASCII.
func visible(s string, most int) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= most
}

// verdict is the error of a request that can't be taken, or nil.
func (p *parser) verdict() error {
	switch {
	case len(p.issues) > 0:
		e := badRequest("nothing was taken: "+describe(&p.issues[0]), p.issues...)
		if p.large {
			e.Status, e.Code = 413, dialect.TooLarge
		}
		return e
	case len(p.forbidden) > 0:
		return &dialect.Error{Status: 403, Code: dialect.Forbidden,
			Message: "nothing was taken: " + describe(&p.forbidden[0]), Issues: p.forbidden}
	}
	return nil
}

// maxShown bounds the path in an answer's message, in bytes; its issues say more.
const maxShown = 200

func describe(is *dialect.Issue) string {
	if len(is.Path) == 0 {
		return is.Message
	}
	return dialect.Clip(strings.Join(is.Path, "."), maxShown) + " " + is.Message
}
