package report

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"sluice/bench"
	"sluice/loadtest/drive"
	"sluice/loadtest/ledger"
)

// aLoad is a run with some of everything.
func aLoad() *drive.Result {
	q := drive.Quantiles{Count: 100, P50: 2, P90: 9, P99: 38, P999: 70, Max: 81}
	lap := func(rate float64) *drive.Lap { return &drive.Lap{Rate: rate, P50: 2, P99: 38, Max: 81} }
	r := &drive.Result{Run: "rtest", Name: "a <b> & c", Seed: 7, Began: time.Unix(1e9, 0), Published: 2,
		Publishers: []drive.PublisherResult{{Name: "prices", Wanted: 100, Rate: 99.7, Due: 1234, Sent: 1234, Acknowledged: 1234, Times: q}},
		Streams:    []drive.StreamsResult{{Name: "screens", Kind: "websocket", Connections: 20, Events: 184_485, Times: q}},
		Receivers:  []drive.ReceiversResult{{Name: "hooks", Endpoints: 2, Requests: 18_600, Times: q}},
		Client:     drive.Client{Limits: []string{"it was asleep"}}, Clients: []drive.Client{{CPU: 0.123}, {CPU: 0.456}},
		Verdict: drive.Verdict{OK: true, Sent: 1234, Acknowledged: 1234}}
	r.Servers = []drive.Server{{URL: "http://10.0.0.7:9090/metrics", Unanswered: 4}}
	for i := range 3 {
		r.Servers[0].Samples = append(r.Servers[0].Samples, drive.Sample{At: float64(i + 1), CPU: 0.5, RSS: 64, Webhooks: 120})
		r.Seconds = append(r.Seconds, drive.Second{At: float64(i + 1), CPU: 0.05, Published: lap(100), Streamed: lap(20_000), Delivered: lap(0)})
	}
	r.Seconds = append(r.Seconds, drive.Second{At: 3.01, CPU: 0.05, Published: lap(100), Streamed: lap(4e6), Delivered: lap(0)})
	return r
}

func aBench() *bench.Result {
	floor, times := []bench.Round{{CPU: 2}, {CPU: 2.5}}, []bench.Round{{CPU: 4, P50: 1.5, Figures: []bench.Figure{{Name: "MB read", Value: 7}}}, {CPU: 5, P50: 2.5, Figures: []bench.Figure{{Name: "MB read", Value: 9}}}}
	return &bench.Result{Machine: bench.Machine{CPU: "a CPU"}, Rows: []bench.RowResult{
		{Name: "ingest", What: "events in", Unit: "CPU-s per million", Floor: floor, Sluice: times},
		{Name: "hang", What: "requests hang", Sluice: []bench.Round{{Figures: []bench.Figure{{Name: "ms, p50", Value: 3}}}}},
	}}
}

// written is the page of some parts, and its text without what is in tags.
func written(t *testing.T, parts ...Part) (page, text string, plots int) {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, parts...); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range root.Descendants() {
		switch {
		case n.Type == html.TextNode && n.Parent.Data != "style":
			b.WriteString(n.Data + " ")
		case n.Type == html.ElementNode && n.Data == "figure":
			plots++
		case n.Type == html.ElementNode:
			if n.Data == "script" || n.Data == "link" || n.Data == "img" {
				t.Errorf("it has a %s", n.Data)
			}
			for _, a := range n.Attr {
				if a.Key == "src" || a.Key == "href" {
					t.Errorf("%s needs %s", n.Data, a.Val)
				}
			}
		}
	}
	return out.String(), strings.Join(strings.Fields(b.String()), " "), plots
}

// TestWrite reads the page of what --json wrote, back again.
func TestWrite(t *testing.T) {
	var parts []Part
	for _, r := range []any{aBench(), aLoad()} {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	page, text, plots := written(t, parts...)
	for _, want := range []string{"a <b> & c", "Holds everything holds", "prices 100 99.7 1,234 0 0 2.00 9.00 38.0 70.0 81.0", "screens (websocket) 20 0 184,485", "10.0.0.7:9090 0.5 0.5 64.0 120 4", "The client was the limit: it was asleep", "Processes that made the load", "2 45.6 0",
		"ingest CPU-s per million 2.25 (2.00–2.50) 4.50 (4.00–5.00) 2.00 – 2.00 –", "ingest MB read 8.00 (7.00–9.00)", "hang ms, p50 3.00", "hang requests hang", "Machine: a CPU", "Svix", "20k"} {
		if !strings.Contains(text, want) {
			t.Errorf("it doesn't say %q: %s", want, text)
		}
	}
	var table strings.Builder
	if err := Markdown(&table, parts...); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| Row | CPU time in | floor |", "\n|---|--:|--:|", "| ingest | CPU-s per million | 2.25 (2.00–2.50) | 4.50 (4.00–5.00) | 2.00 | – | 2.00 | – | – |\n", "**Load: a &lt;b> &amp; c** Run rtest, seed 7", "| Svix"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("as Markdown it doesn't have %q: %s", want, table.String())
		}
	}
	if plots != 10 || strings.Contains(page, "#010203") || strings.Contains(page, "Liberation Serif") || !strings.Contains(page, "var(--line3)") || strings.Contains(page, "NaN") {
		t.Errorf("%d plots: %s", plots, page)
	}
	if strings.Contains(text, "4M") {
		t.Errorf("it draws a rate of 10 ms: %s", text)
	}
}

// TestWriteWhatIsWrong names what was violated; of a run that saw nothing there is a
// page, too.
func TestWriteWhatIsWrong(t *testing.T) {
	r := &drive.Result{Verdict: drive.Verdict{Count: map[ledger.Kind]int{ledger.Lost: 2}, Violations: []string{"lost: event <1>"}}}
	page, text, plots := written(t, Part{Load: r}, Part{Bench: new(bench.Result)})
	if !strings.Contains(text, "Does not hold VIOLATED: 2 lost lost: event <1>") || !strings.Contains(page, `class="verdict bad"`) || plots != 0 {
		t.Errorf("%d plots: %s", plots, text)
	}
	for _, bad := range []string{"", "[]", "{}", `{"rows":7}`, `{"verdict":[]}`} {
		if p, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, p)
		}
	}
}

// TestReadme holds the README's table against the rounds that others are told to compare
// theirs with.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../docs/bench.json")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	part, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ofBench(part.Bench)
	if err != nil {
		t.Fatal(err)
	}
	facts := s.Facts
	for _, row := range s.Tables[0].Rows[1:] {
		facts = append(facts, "| "+strings.Join(row[:4], " | ")+" |") // the row, its unit, floor and product
	}
	for _, fact := range facts {
		if !bytes.Contains(readme, []byte(fact)) {
			t.Errorf("the README doesn't say %s", fact)
		}
	}
}
