package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"unicode"
)

// newLogger writes the process's log: one JSON object a line for machines, or
// lines for people, in colours where w is a terminal.
func newLogger(w io.Writer, format string, level slog.Level) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(&textHandler{w: w, mu: new(sync.Mutex), level: level, colours: isTerminal(w)})
}

// textHandler writes time, level, message and attributes on one line.
type textHandler struct {
	mu      *sync.Mutex
	w       io.Writer
	level   slog.Level
	colours bool
	prefix  string // of the groups that are open
	attrs   string // already written out
}

func (h *textHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	level := fmt.Sprintf("%-5s", r.Level)
	message := r.Message
	if h.colours {
		level = colourOf(r.Level) + level + reset
		message = bold + message + reset
	}
	fmt.Fprintf(&b, "%s %s %s%s", r.Time.Format("15:04:05.000"), level, message, h.attrs)
	r.Attrs(func(a slog.Attr) bool { appendAttr(&b, h.prefix, a); return true })
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

func (h *textHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		appendAttr(&b, h.prefix, a)
	}
	with := *h
	with.attrs += b.String()
	return &with
}

func (h *textHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.prefix += name + "."
	return &with
}

func appendAttr(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() == slog.KindGroup:
		for _, in := range v.Group() {
			appendAttr(b, prefix+a.Key+".", in)
		}
	case a.Key != "":
		text := v.String()
		if text == "" || strings.ContainsFunc(text, needsQuotes) {
			text = fmt.Sprintf("%q", text)
		}
		fmt.Fprintf(b, " %s%s=%s", prefix, a.Key, text)
	}
}

// needsQuotes finds what would make a line ambiguous, or play tricks on a terminal.
func needsQuotes(r rune) bool { return r == ' ' || r == '"' || r == '=' || !unicode.IsPrint(r) }

// Terminal colours.
const (
	reset   = "\x1b[0m"
	bold    = "\x1b[1m"
	faint   = "\x1b[2m"
	red     = "\x1b[31m"
	green   = "\x1b[32m"
	yellow  = "\x1b[33m"
	blue    = "\x1b[34m"
	magenta = "\x1b[35m"
	cyan    = "\x1b[36m"
)

func colourOf(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return red
	case level >= slog.LevelWarn:
		return yellow
	default:
		return green
	}
}
