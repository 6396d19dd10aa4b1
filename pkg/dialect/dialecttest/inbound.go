package dialecttest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
)

// inbound has each line of the file that begins with >, a provider and a body, read;
// the next says what came of it. The last are the answers.
func inbound(t *testing.T, d *dialect.Dialect, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("what providers send must be in %s: %v", file, err)
	}
	providers, read := make(map[string]*dialect.Inbound), make(map[string]bool)
	for _, in := range d.Inbound {
		providers[in.Provider] = in
		unsigned := &dialect.Received{Header: func(string) string { return "" }, Body: []byte("{}"), Secrets: []endpoint.Secret{endpoint.Secret("a secret")}}
		if in.Verify(unsigned) == nil {
			t.Errorf("%s takes what nobody signed", in.Provider)
		}
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		sent, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "> ")
		if !found {
			continue
		}
		name, body, _ := strings.Cut(sent, " ")
		in := providers[name]
		if in == nil {
			t.Fatalf("no provider takes %s", sent)
		}
		id, ev, wrong := in.Read([]byte(body))
		if wrong != nil {
			shown := wrong.AppendJSON(nil)
			if d.AppendError != nil {
				shown = d.AppendError(nil, wrong)
			}
			lines = append(lines, "> "+sent, fmt.Sprintf("%d %s", wrong.Status, shown))
			continue
		}
		read[name] = true
		if _, _, err := event.Canonical(ev.Data); err != nil || !event.ValidType(ev.Type) || id == "" || len(id) > dialect.MaxInboundID {
			t.Errorf("%s becomes what is no event: %v", sent, err)
		}
		at := "now"
		if !ev.Timestamp.IsZero() {
			at = dialect.Timestamp(ev.Timestamp)
		}
		lines = append(lines, "> "+sent, fmt.Sprintf("%q %s %s %s %s", id, ev.Environment, ev.Type, at, ev.Data))
	}
	for _, in := range d.Inbound {
		if !read[in.Provider] {
			t.Errorf("%s has nothing that %s sends", file, in.Provider)
		}
		for _, duplicate := range []bool{false, true} {
			lines = append(lines, in.Provider+" "+appended(t, func(dst []byte) []byte { return in.AppendReply(dst, duplicate) }))
		}
	}
	golden(t, file, lines)
}
