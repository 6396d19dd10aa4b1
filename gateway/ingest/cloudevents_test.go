package ingest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/pkg/event"
)

const structured = `{"specversion":"1.0","id":"A234","source":"/shop/1","type":"com.example.order.paid","subject":"order 7",` +
	`"time":"2026-11-22T04:50:42.1239+02:00","datacontenttype":"application/json","dataschema":"https://example.com/s","data":{"b":1.0,"a":"é"},` +
	`"audience":"org_c, org_b","corridor":"ethereum-optimism","network":"ethereum","traceparent":"00-1","sequence":7,"odd":null}`

// The same event, in each of the three ways, is one event.
func TestCloudEvents(t *testing.T) {
	log, in := following(t)
	want := `{"id":"` + event.SourceID("ce_", "/shop/1", "A234") + `"}`
	status, answer, replayed := post(t, in, broadcaster, &Request{ContentType: "application/cloudevents+json; charset=utf-8", Body: []byte(structured)})
	if status != 202 || answer != want || replayed {
		t.Fatalf("structured: %d %s, %v", status, answer, replayed)
	}
	ev := log.events(t)[0]
	if !event.ValidID(ev.ID) || ev.Type != "com.example.order.paid" || ev.Key != "order 7" || ev.Timestamp.Format(event.TimestampLayout) != "2026-11-22T02:50:42.123Z" ||
		string(ev.Data) != `{"b":1,"a":"é"}` || !slices.Equal(ev.Audience.Orgs, []string{"org_b", "org_c"}) || ev.Audience.All ||
		ev.Corridor != "ethereum-optimism" || ev.Network != "ethereum" {
		t.Errorf("event %+v", ev)
	}
	binary := map[string]string{"ce-specversion": "1.0", "ce-id": "A234", "ce-source": "/shop/1", "ce-type": "com.example.order.paid",
		"ce-subject": "order%207", "ce-time": "2026-11-22T04:50:42.1239+02:00", "ce-audience": "org_b,org_c",
		"ce-corridor": "ethereum-optimism", "ce-network": "ethereum", "ce-other": "x"}
	for _, contentType := range []string{"", "application/json", "application/vnd.acme+json"} {
		status, answer, replayed = post(t, in, broadcaster, &Request{ContentType: contentType, Header: headers(binary), Body: []byte(` {"b":1, "a":"é"} `)})
		if status != 202 || answer != want || !replayed {
			t.Errorf("binary as %q: %d %s, %v", contentType, status, answer, replayed)
		}
	}
	status, answer, replayed = post(t, in, broadcaster, &Request{ContentType: "application/cloudevents-batch+json",
		Body: []byte(`[` + structured + `,{"specversion":"1.0","id":"A234","source":"/shop/2","type":"a.b","audience":"*"}]`)})
	if second := event.SourceID("ce_", "/shop/2", "A234"); status != 202 || answer != `{"ids":["`+event.SourceID("ce_", "/shop/1", "A234")+`","`+second+`"]}` || replayed {
		t.Errorf("batch: %d %s, %v", status, answer, replayed)
	}
	events := log.events(t)
	if len(events) != 2 || string(events[1].Data) != "{}" || !events[1].Audience.All || events[1].Key != "org_a" {
		t.Errorf("%d events, %+v", len(events), events[len(events)-1])
	}
	if status, answer, _ := post(t, in, broadcaster, &Request{ContentType: "application/cloudevents+json", Body: []byte(strings.Replace(structured, "1.0,", "2,", 1))}); status != 409 {
		t.Errorf("other data: %d %s", status, answer)
	}
	other := `[{"specversion":"1.0","id":"new","source":"/s","type":"a.b"},` + strings.Replace(structured, "1.0,", "2,", 1) + `]`
	if status, answer, _ := post(t, in, broadcaster, &Request{ContentType: "application/cloudevents-batch+json", Body: []byte(other)}); status != 409 || !strings.Contains(answer, `"path":["1","id"]`) {
		t.Errorf("other data in a batch: %d %s", status, answer)
	}
}

// The ids are documented, and so are for good.
func TestCloudEventID(t *testing.T) {
	if got := event.SourceID("ce_", "/shop/1", "A234"); got != "ce_MR1NSmXGOPDGnrwGS4xkCVTy" {
		t.Errorf("id %s", got)
	}
	if event.SourceID("ce_", "ab", "c") == event.SourceID("ce_", "a", "bc") {
		t.Error("source and id run together")
	}
}

func TestCloudEventsRefused(t *testing.T) {
	in := newIngest(&kept{})
	ce := func(more string) string {
		return `{"specversion":"1.0","id":"1","source":"/s","type":"a.b"` + more + `}`
	}
	const one, many = "application/cloudevents+json", "application/cloudevents-batch+json"
	for _, c := range []struct {
		contentType, body string
		status            int
		path, message     string
	}{
		{one, ce(`,"data_base64":"aGk="`), 400, `["data_base64"]`, "JSON object"},
		{one, ce(`,"datacontenttype":"text/xml","data":"<a/>"`), 400, `["datacontenttype"]`, "application/json"},
		{one, ce(`,"data":"text"`), 400, `["data"]`, "JSON object"},
		{one, ce(`,"data":[1]`), 400, `["data"]`, "JSON object"},
		{one, ce(`,"time":"yesterday"`), 400, `["time"]`, "RFC 3339"},
		{one, ce(`,"subject":""`), 400, `["subject"]`, "256"},
		{one, ce(`,"subject":7`), 400, `["subject"]`, "string"},
		{one, ce(`,"audience":"org_a,,org_b"`), 400, `["audience"]`, "commas"},
		{one, ce(`,"audience":"nobody"`), 400, `["audience"]`, "no such org"},
		{one, ce(`,"source":"/t"`), 400, `["source"]`, "twice"},
		{one, ce(`,"other":1,"other":1`), 400, `["other"]`, "twice"},
		{one, ce(`,"subject":null,"subject":"s"`), 400, `["subject"]`, "twice"},
		{one, strings.Replace(ce(""), `"a.b"`, `"Order"`, 1), 400, `["type"]`, "two or more words"},
		{one, strings.Replace(ce(""), `"1.0"`, `"0.3"`, 1), 400, `["specversion"]`, "1.0"},
		{one, strings.Replace(ce(""), `"id":"1",`, ``, 1), 400, `["id"]`, "missing"},
		{one, strings.Replace(ce(""), `"/s"`, `""`, 1), 400, `["source"]`, "empty"},
		{one, strings.Replace(ce(""), `"/s"`, `null`, 1), 400, `["source"]`, "missing"},
		{one, ce("") + ce(""), 400, ``, "more than one value"},
		{one, `[` + ce("") + `]`, 400, ``, "must be an object"},
		{one, `{"specversion":"1.0"`, 400, ``, "ends before"},
		{many, `[]`, 400, ``, "empty"},
		{many, ce(""), 400, ``, "list of CloudEvents"},
		{many, `[` + ce("") + `,` + ce("") + `]`, 400, `["1","id"]`, "same id"},
		{many, `[` + ce("") + `,{"id":"2"}]`, 400, `["1","specversion"]`, "missing"},
		{many, `[` + strings.Repeat(ce("")+",", 1000) + ce("") + `]`, 400, ``, ""},
	} {
		status, answer, _ := post(t, in, broadcaster, &Request{ContentType: c.contentType, Body: []byte(c.body)})
		answer = strings.NewReplacer(`[0,`, `["0",`, `[1,`, `["1",`).Replace(answer)
		if status != c.status || !strings.Contains(answer, c.path) || !strings.Contains(answer, c.message) {
			t.Errorf("%.200s: %d %s", c.body, status, answer)
		}
	}
	var thousand []string
	for i := range 1001 {
		thousand = append(thousand, strings.Replace(ce(""), `"1",`, fmt.Sprintf(`"%d",`, i), 1))
	}
	if status, answer, _ := post(t, in, broadcaster, &Request{ContentType: many, Body: []byte(`[` + strings.Join(thousand, ",") + `]`)}); status != 400 || !strings.Contains(answer, "1000") {
		t.Errorf("1,001 events: %d %s", status, answer)
	}
	binary := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "a.b"}
	const ours = `{"type":"a.b","data":{}}` // as good as CloudEvents' data
	for contentType, want := range map[string]int{"text/plain": 415, "application/x-ndjson": 415, "application/json": 503, "text/json": 503} {
		if status, answer, _ := post(t, in, broadcaster, &Request{ContentType: contentType, Header: headers(binary), Body: []byte(ours)}); status != want {
			t.Errorf("binary as %s: %d %s", contentType, status, answer)
		}
	}
	for name := range binary {
		lacking := maps.Clone(binary)
		delete(lacking, name)
		want := `["` + strings.TrimPrefix(name, "ce-") + `"]`
		if status, answer, _ := post(t, in, broadcaster, &Request{Header: headers(lacking), Body: []byte(ours)}); status != 400 || !strings.Contains(answer, want) {
			t.Errorf("without %s: %d %s", name, status, answer)
		}
	}
	for _, wrong := range []string{"100%", "\xfc", "%fc"} {
		binary["ce-subject"] = wrong
		if status, answer, _ := post(t, in, publisher, &Request{Header: headers(binary)}); status != 400 || !strings.Contains(answer, "subject") {
			t.Errorf("subject %q: %d %s", wrong, status, answer)
		}
	}
	if status, answer, _ := post(t, in, publisher, &Request{ContentType: one, Body: []byte(ce(`,"audience":"*"`))}); status != 403 {
		t.Errorf("without the scope: %d %s", status, answer)
	}
}

// Attributes in headers are percent-encoded, or quoted as senders did before.
func TestCloudEventHeaders(t *testing.T) {
	log, in := following(t)
	for n, c := range []struct{ header, want string }{
		{`Euro%20%E2%82%AC%20%F0%9F%98%80`, "Euro € 😀"},
		{`"order 7"`, "order 7"},
		{`"say \"hi\" \\ %22"`, `say "hi" \ "`},
		{`"order%207"`, "order 7"},
		{`a+b`, "a+b"},
		{`100%2525`, "100%25"}, // decoded once
		{`"`, `"`},
		{`"open`, `"open`},
	} {
		list := map[string]string{"ce-specversion": "1.0", "ce-id": fmt.Sprint(n), "ce-source": "/s", "ce-type": "a.b", "ce-subject": c.header}
		status, answer, _ := post(t, in, publisher, &Request{Header: headers(list)})
		if events := log.events(t); status != 202 || events[len(events)-1].Key != c.want {
			t.Errorf("%s: %d %s", c.header, status, answer)
		}
	}
	// In quotes or not, it is the same event.
	for n, id := range []string{`"b c"`, `b%20c`} {
		list := map[string]string{"ce-specversion": `"1.0"`, "ce-id": id, "ce-source": "/s", "ce-type": "a.b"}
		if status, answer, replayed := post(t, in, publisher, &Request{Header: headers(list)}); status != 202 || replayed != (n == 1) {
			t.Errorf("%s: %d %s, %v", id, status, answer, replayed)
		}
	}
}

// What a request may hold is taken in time that grows with it, and no faster.
func TestManyAttributes(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"specversion":"0.3"`)
	for i := 0; b.Len() < MaxBody-100; i++ {
		fmt.Fprintf(&b, `,"a%06x":1`, i)
	}
	b.WriteString(`}`)
	in := newIngest(&kept{})
	done := make(chan string, 1)
	go func() {
		_, answer, _ := post(t, in, publisher, &Request{ContentType: "application/cloudevents+json", Body: []byte(b.String())})
		done <- answer
	}()
	for began := processorTime(t); ; {
		select {
		case answer := <-done:
			if !strings.Contains(answer, "specversion") {
				t.Error(answer)
			}
			return
		case <-time.After(50 * time.Millisecond):
			if took := processorTime(t) - began; took > 20*time.Second {
				t.Fatalf("the attributes are still being read after %v of processor time", took)
			}
		}
	}
}

// processorTime is what this process has had of the processors: others on the machine
// don't add to it.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func FuzzCloudEvents(f *testing.F) {
	f.Add(structured, "application/cloudevents+json")
	f.Add(`[`+structured+`,{"specversion":"1.0","id":"2","source":"s","type":"a.b","data":null}]`, "application/cloudevents-batch+json")
	f.Add(`{"a":[`, "")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		in := newIngest(&kept{})
		r := &Request{ContentType: contentType, Body: []byte(body), Header: headers(map[string]string{
			"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "a.b", "ce-subject": contentType})}
		// Whatever is right has an id, and nobody follows this log.
		if status, answer, _ := post(t, in, broadcaster, r); status == 202 && contentType != "application/x-ndjson" {
			t.Fatalf("%q: %s", body, answer)
		}
	})
}
