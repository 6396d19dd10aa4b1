package main

import (
	"bytes"
	varints "encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// poisons are what could lie in a topic and can't be read there, whichever topic it
// is.
func poisons() [][]byte {
	seeded := rand.New(rand.NewPCG(31, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(seeded.Uint32())
		}
		b[0] |= 0x80 // no version of ours
		return b
	}
	ev := &event.Event{ID: "evt_x", Type: "a.b", Environment: event.Sandbox, Org: "o", Audience: event.Audience{All: true}, Data: []byte(`{"a":1}`)}
	good := ev.AppendRecord(nil)
	d := &delivery.Delivery{ID: "dlv_x", Endpoint: "wh_x", Event: *ev}
	owed := d.AppendRecord(nil)
	huge := varints.AppendUvarint(nil, 1<<40)
	newer := slices.Clone(good)
	newer[0] = 99
	list := [][]byte{
		{}, {0}, {1}, {2}, {0xff}, []byte("{"), []byte("x"),
		noise(40), noise(4000), noise(eventlog.MaxRecord), bytes.Repeat([]byte{1}, eventlog.MaxRecord), bytes.Repeat([]byte{0}, eventlog.MaxRecord),
		newer, good[:len(good)-1], good[:20],
		slices.Concat(good[:12], huge, good[13:]),                              // a head longer than the record
		slices.Concat(good[:13], huge, good[14:]),                              // an id longer than the head
		slices.Concat(owed[:3], huge, owed[4:]), slices.Concat(owed[:4], huge), // the same of a delivery
		owed[:len(owed)/2],
		slices.Concat([]byte{1, 'A', 0}, huge), slices.Concat([]byte{1, 'M'}, huge), slices.Concat([]byte{1, 'S'}, huge), {1, 'D', 0}, {1, 'X', 0},
		slices.Concat([]byte{1, 1}, noise(20)), slices.Concat([]byte{1, 2}, noise(16), huge), slices.Concat([]byte{1, 3}, noise(16), huge), // claim, done, take
		[]byte(`{"v":0}`), []byte(`{"v":1,"op":"org.create","id":"cmd_x","at":"2026-11-22T00:00:00Z","do":{"x":1}}`),
		[]byte(`{"id":"a","org":"o","type":"a.b","data":{"a":` + strings.Repeat("[", 500_000)),
		[]byte(`{"id":"a","org":"o","type":"a.b","data":{"a":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}}`),
		[]byte("{\"id\":\"a\",\"org\":\"o\",\"type\":\"a.b\",\"data\":{\"a\":\"\xff\"}}"),
	}
	for _, data := range []string{"{nothing}", "{\"a\":\"\xff\"}", `{"a":1,"a":2}`, `{"a":` + strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 71)} {
		lying := *ev
		lying.Data = []byte(data)
		b := lying.AppendRecord(nil)
		b[3] &^= 4 // without a sum: whoever reads it looks at its data
		list = append(list, b)
	}
	return list
}

// TestPoison: whatever lies in whichever topic, everything goes on: what is
// published is streamed, delivered once and listed, before and after a new start.
func TestPoison(t *testing.T) {
	for name, config := range map[string]func(*testing.T) nodeConfig{
		"embedded": func(t *testing.T) nodeConfig { return nodeConfig{Data: t.TempDir()} },
		"kafka":    onBrokers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			if cfg.Data == "" {
				cfg.Data = t.TempDir()
			}
			n := startStory(t, cfg)
			m := n.member(t)
			h, l := m.hook(t, nil, "*"), m.listen(t, "", "*")
			works := func() {
				t.Helper()
				for range 2 {
					id := m.publish(t, "rfq.created", nil)
					l.next(t, id)
					h.next(t, id)
				}
				if r, text := get(t, n.OpsURL()+"/readyz"); r.StatusCode != http.StatusOK {
					t.Fatalf("not ready: %s", text)
				}
			}
			works()
			list := poisons()
			other := &event.Event{ID: "evt_x", Type: "a.b", Environment: event.Live, Org: m.org, Audience: event.Audience{All: true}, Data: []byte(`{}`)}
			busy := delivery.Lane(h.id)
			topics := topics()
			for _, topic := range topics {
				values := list
				if topic.Name == event.Sandbox.Topic() {
					values = append(slices.Clone(list), other.AppendRecord(nil))
				}
				numbers := []int32{busy, (busy + 5) % delivery.Lanes}
				if topic.Partitions == 1 {
					numbers = []int32{0}
				}
				for _, number := range numbers {
					for _, value := range values {
						r := eventlog.Record{Partition: eventlog.Partition{Topic: topic.Name, Number: number}, Value: value}
						if _, err := n.log.Append(t.Context(), []eventlog.Record{r}); err != nil {
							t.Fatalf("%s, %d bytes: %v", topic.Name, len(value), err)
						}
					}
				}
				works()
			}
			want := map[string]int{event.Sandbox.Topic(): len(list) + 1}
			for _, topic := range topics {
				if strings.HasPrefix(topic.Name, "tier.") {
					want[topic.Name] = 2 * len(list)
				}
			}
			n.wantDead(t, want)
			n.wantMetric(t, "sluice_fanout_poisoned_total", 2*len(list)+1) // of both environments
			n.wantMetric(t, `sluice_stream_records_poisoned_total{environment="sandbox"}`, len(list)+1)
			eventually(t, time.Minute, func() error {
				if got := n.metric(t, "sluice_idempotency_poisoned_total"); got < 2*len(list)-6 { // a few could be claims
					return fmt.Errorf("%d records were passed over by claims", got)
				}
				return nil
			})

			// A new start reads all of it again.
			if err := n.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			n = startStory(t, cfg)
			m.base = n.URL()
			l = m.listen(t, "", "*")
			works()
			n.wantDead(t, map[string]int{event.Sandbox.Topic(): len(list) + 1, "tier.0s": 2 * len(list), "tier.1h": 2 * len(list), "held": 2 * len(list)})

			// Only what a newer release wants of every node stops this one, and says so.
			newer := eventlog.Record{Partition: eventlog.Partition{Topic: control.Topic.Name}, Value: []byte(`{"v":99,"op":"org.create","id":"cmd_y","at":"2026-11-22T00:00:00Z","do":{}}`)}
			if _, err := n.log.Append(t.Context(), []eventlog.Record{newer}); err != nil {
				t.Fatal(err)
			}
			eventually(t, patience, func() error {
				if r, text := get(t, n.OpsURL()+"/readyz"); r.StatusCode == http.StatusOK || !strings.Contains(text, "upgrade this node") {
					return fmt.Errorf("%s: %s", r.Status, text)
				}
				return nil
			})
		})
	}
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(text)
}

// metric reads one of the node's metrics; 0: it isn't there.
func (n *storyNode) metric(t *testing.T, name string) int {
	t.Helper()
	_, text := get(t, n.OpsURL()+"/metrics")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	v, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(v)
}

// wantMetric waits until a metric is what it should be, and has it be no more.
func (n *storyNode) wantMetric(t *testing.T, name string, want int) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		got := n.metric(t, name)
		if got > want {
			t.Fatalf("%s is %d, want %d", name, got, want)
		}
		if got < want {
			return fmt.Errorf("%s is %d, want %d", name, got, want)
		}
		return nil
	})
}

// wantDead waits until there are as many dead letters of each topic, and has there be no
// more: a lane that nothing else is published to comes to them in its own time.
func (n *storyNode) wantDead(t *testing.T, want map[string]int) {
	t.Helper()
	eventually(t, time.Minute, func() (err error) {
		dead := n.dead(t)
		for topic, count := range want {
			if dead[topic] > count {
				t.Fatalf("%d dead letters of %s, want %d", dead[topic], topic, count)
			}
			if dead[topic] < count {
				err = fmt.Errorf("%d dead letters of %s, want %d", dead[topic], topic, count)
			}
		}
		return err
	})
}

// dead counts the dead letters for records that can't be read, by their topics.
func (n *storyNode) dead(t *testing.T) map[string]int {
	t.Helper()
	count := make(map[string]int)
	for number := range int32(delivery.Lanes) {
		p := eventlog.Partition{Topic: delivery.DeadTopic, Number: number}
		from, end, err := n.log.Bounds(t.Context(), p)
		for err == nil && from < end {
			var records []eventlog.Record
			if records, err = n.log.Read(t.Context(), p, from, 1<<20); err != nil {
				break
			}
			for i := range records {
				if d, err := delivery.DecodeDelivery(records[i].Value); err == nil && strings.Contains(d.Reason, "can't be read") {
					count[d.Origin.Topic]++
				}
			}
			from = records[len(records)-1].Offset + 1
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return count
}
