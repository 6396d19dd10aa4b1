package attempt

import (
	"bytes"
	"context"
	"io"
	"net/http/httptrace"
	"time"

	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
)

// What went over the wire is told to whoever looks into an attempt. It costs what
// it must: one copy of the headers that were written, the answer's bytes where it
// has some, and a look at the clock for each stage.

// appendSent adds the header lines of a request as it was written. Those from hidden
// on were chosen by the endpoint's owner, who may keep a password in one: of these the
// names are shown.
func appendSent(dst, head []byte, hidden []dialect.Header) []byte {
	_, lines, _ := bytes.Cut(head, crlf)
	end := bytes.Index(lines, blankLine) + len(crlf)
	for i := range hidden {
		end -= len(hidden[i].Name) + len(": ") + len(hidden[i].Value) + len(crlf)
	}
	dst = append(dst, lines[:end]...)
	for i := range hidden {
		dst = append(dst, hidden[i].Name...)
		dst = append(dst, ": "+redacted+"\r\n"...)
	}
	return dst
}

// withoutEchoes takes the values of hidden headers out of an answer: some receivers
// answer with what they were sent, and the answer is logged and kept.
func withoutEchoes(answer []byte, hidden []dialect.Header) []byte {
	for i := range hidden {
		if value := []byte(hidden[i].Value); len(value) >= minEcho && bytes.Contains(answer, value) {
			answer = bytes.ReplaceAll(answer, value, []byte(redacted))
		}
	}
	return answer
}

const redacted = "[redacted]"

// minEcho is how long a value must be to be looked for: a shorter one may stand in any
// answer, and with longer ones no answer grows.
const minEcho = len(redacted)

var (
	crlf      = []byte("\r\n")
	blankLine = []byte("\r\n\r\n")
)

// readBody reads the body to its end, or until it is too large or too late. It
// gives the beginning, and whether it came to the end. room is for whoever reads.
func readBody(body io.Reader, room []byte) (answer []byte, whole bool) {
	room = room[:cap(room)]
	for {
		n, err := body.Read(room)
		answer = append(answer, room[:min(n, delivery.MaxAnswer-len(answer))]...)
		if err != nil {
			return answer, err == io.EOF
		}
	}
}

type timingKey struct{}

// timed has whoever dials with the context note how long it took.
func timed(ctx context.Context, t *delivery.Timing) context.Context {
	var began time.Time
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ // both are called by who dials
		DNSStart: func(httptrace.DNSStartInfo) { began = time.Now() },
		DNSDone:  func(httptrace.DNSDoneInfo) { t.DNS += time.Since(began) },
	})
	return context.WithValue(ctx, timingKey{}, t)
}

// shook notes how long a handshake took.
func shook(ctx context.Context, took time.Duration) {
	if t, ok := ctx.Value(timingKey{}).(*delivery.Timing); ok {
		t.TLS += took
	}
}
