package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// TestProducer: what a producer of somebody else's writes into Kafka comes out
// wherever the API's events do, and what isn't valid doesn't.
func TestProducer(t *testing.T) {
	t.Parallel()
	t.Run("kafka", func(t *testing.T) {
		cfg := onBrokers(t)
		n := startStory(t, cfg)
		m := n.member(t)
		h, l := m.hook(t, nil, "order.*"), m.listen(t, "", "order.*")
		topic := cfg.Prefix + event.Sandbox.Topic()
		produce := func(org string) []string {
			cmd := exec.Command("go", "run", "../../examples/producer", "--brokers", strings.Join(cfg.Brokers, ","), "--topic", topic, "--org", org)
			var said bytes.Buffer
			cmd.Stderr = &said
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, said.Bytes())
			}
			var ids []string
			for line := range strings.Lines(string(out)) {
				ids = append(ids, strings.Fields(line)[0])
			}
			return ids
		}
		inTopic := func(value string) {
			r := eventlog.Record{Partition: eventlog.Partition{Topic: event.Sandbox.Topic()}, Value: []byte(value)}
			if _, err := n.log.Append(t.Context(), []eventlog.Record{r}); err != nil {
				t.Fatal(err)
			}
		}
		inTopic(`{"id":"mistyped","org":"` + m.org + `","type":"order.paid","data":{},"audiance":"*"}`)
		produce("org_of_nobody")
		ids := produce(m.org)
		inTopic(`{"id":"` + ids[0] + `","org":"` + m.org + `","type":"order.paid","data":{}}`) // again: its copy
		last := m.publish(t, "order.paid", nil)
		delivered := make(map[string]bool)
		for _, id := range append(ids, last) {
			if v := l.next(t, id); id == ids[0] && (v["total"] != 45000.0 || v["type"] != "order.paid") {
				t.Errorf("streamed as %v", v)
			}
			delivered[h.any(t)] = true
		}
		for _, id := range append(ids, last) {
			if !delivered[id] {
				t.Errorf("%s wasn't delivered, but %v", id, delivered)
			}
		}
		var page struct{ Data []struct{ ID string } }
		if _, err := m.call(t.Context(), "GET", "/v1/events?types=order.paid", nil, &page); err != nil || len(page.Data) < len(ids)+1 {
			t.Errorf("listed %+v, %v", page, err)
		}
	})
}

// TestRecordFormat holds docs/record-format.md to the code: its records are
// events, and its Go is that of the example.
func TestRecordFormat(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "record-format.md"))
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "producer", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	code := make(map[string]bool)
	for line := range strings.Lines(string(example)) {
		code[strings.TrimSpace(line)] = true
	}
	records, lines := 0, 0
	for line := range strings.Lines(string(page)) {
		text, ok := strings.CutPrefix(line, "    ")
		switch text = strings.TrimSpace(text); {
		case !ok || text == "":
		case strings.HasPrefix(text, `{"`):
			records++
			if _, err := event.FromLog([]byte(text), event.Live, 0, time.Now()); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		case regexp.MustCompile(`:=|json:|^type |^}`).MatchString(text):
			lines++
			if !code[text] {
				t.Errorf("examples/producer has no line %q", text)
			}
		}
	}
	if records < 2 || lines < 10 {
		t.Errorf("%d records and %d lines of Go were found", records, lines)
	}
}
