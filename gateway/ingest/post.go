package ingest

import (
	"context"
	"errors"
	"strings"
	"time"

	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/key"
)

// MaxBody bounds the body of a request, in bytes.
const MaxBody = 4 << 20

// Post is POST /v1/events. The caller has authenticated the principal, and seen
// that it may publish. What it returns as an error is a *dialect.Error.
func (i *Ingest) Post(ctx context.Context, principal *key.Principal, contentType string, body []byte) (*dialect.Response, error) {
	answer, err := i.post(ctx, principal, contentType, body)
	if err != nil {
		var refused *dialect.Error
		if errors.As(err, &refused) {
			i.metrics.refused.WithLabelValues(string(refused.Code)).Inc()
		}
		return nil, err
	}
	return &dialect.Response{Status: 202, Body: answer}, nil
}

func (i *Ingest) post(ctx context.Context, principal *key.Principal, contentType string, body []byte) ([]byte, error) {
	lines, ok := mediaType(contentType)
	if !ok {
		return nil, &dialect.Error{Status: 415, Code: dialect.Unsupported,
			Message: "Content-Type must be application/json, or application/x-ndjson for an event on each line"}
	}
	if len(body) > MaxBody {
		return nil, tooLarge("the body has more than 4 MiB; send it in several requests")
	}
	p := parser{reader: reader{b: body}, principal: principal, orgExists: i.cfg.OrgExists, now: time.Now()}
	batch := lines
	if lines {
		p.lines()
	} else {
		batch = p.body()
	}
	if err := p.verdict(); err != nil {
		return nil, err
	}
	if err := i.append(ctx, p.events); err != nil {
		return nil, err
	}
	return appendAnswer(nil, p.events, batch), nil
}

// mediaType tells JSON from lines of JSON. No media type is JSON.
func mediaType(contentType string) (lines, ok bool) {
	if contentType == "application/json" { // most of them
		return false, true
	}
	mt, _, _ := strings.Cut(contentType, ";")
	switch strings.ToLower(strings.TrimSpace(mt)) {
	case "", "application/json":
		return false, true
	case "application/x-ndjson":
		return true, true
	}
	return false, false
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

// appendAnswer adds {"id":"…"}, or {"ids":[…]} for a batch. Ids need no escapes.
func appendAnswer(dst []byte, events []*event.Event, batch bool) []byte {
	if !batch {
		dst = append(dst, `{"id":"`...)
		dst = append(dst, events[0].ID...)
		return append(dst, `"}`...)
	}
	dst = append(dst, `{"ids":[`...)
	for i, ev := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, ev.ID...)
		dst = append(dst, '"')
	}
	return append(dst, `]}`...)
}
