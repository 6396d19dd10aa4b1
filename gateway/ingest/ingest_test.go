package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/gateway/idem"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

var (
	publisher   = &key.Principal{Org: "org_a", Environment: event.Sandbox, Scopes: []key.Scope{key.Publish}}
	broadcaster = &key.Principal{Org: "org_a", Environment: event.Live, Scopes: []key.Scope{key.Publish, key.Broadcast}}
)

func knownOrg(id string) bool { return strings.HasPrefix(id, "org_") }

// kept is a log that remembers what events it was given.
type kept struct {
	eventlog.Log // nil: nothing but Append is asked of it
	records      []eventlog.Record
	err          error
	hang         bool
}

func (k *kept) Append(ctx context.Context, records []eventlog.Record) ([]int64, error) {
	if k.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if k.err != nil {
		return nil, k.err
	}
	for _, r := range records {
		if r.Topic == idem.Topic.Name {
			continue
		}
		r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
		k.records = append(k.records, r)
	}
	if k.Log != nil {
		return k.Log.Append(ctx, records)
	}
	return make([]int64, len(records)), nil
}

// following makes an Ingest on a log in memory that runs until the test ends, and
// so takes events with ids.
func following(t *testing.T) (*kept, *Ingest) {
	t.Helper()
	topics := []eventlog.Topic{idem.Topic}
	for _, env := range event.Environments {
		topics = append(topics, eventlog.Topic{Name: env.Topic(), Partitions: 1})
	}
	log := &kept{Log: eventlogtest.Mem(t, topics...)}
	in := newIngest(log)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { in.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	<-in.Ready()
	return log, in
}

func newIngest(log eventlog.Log) *Ingest {
	return New(Config{Log: log, OrgExists: knownOrg, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
}

func (k *kept) events(t *testing.T) []*event.Event {
	t.Helper()
	var out []*event.Event
	for _, r := range k.records {
		ev, err := event.DecodeRecord(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != ev.Key || r.Topic != ev.Environment.Topic() {
			t.Errorf("record in %s with key %q for %+v", r.Topic, r.Key, ev)
		}
		out = append(out, ev)
	}
	return out
}

func TestPostSingle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &kept{}
		in := newIngest(log)
		res, err := in.Post(t.Context(), publisher, &Request{Body: []byte(` { "type" : "rfq.created" , "data" : {"b":1.0, "a":"x"} } `)})
		if err != nil {
			t.Fatal(err)
		}
		ev := log.events(t)[0]
		if res.Status != 202 || string(res.Body) != `{"id":"`+ev.ID+`"}` {
			t.Errorf("answer %d %s", res.Status, res.Body)
		}
		if made, ok := event.IDTime(ev.ID); !ok || !made.Equal(time.Now()) {
			t.Errorf("id %s", ev.ID)
		}
		if string(ev.Data) != `{"b":1,"a":"x"}` || ev.Type != "rfq.created" || ev.Org != "org_a" || ev.Key != "org_a" ||
			ev.Environment != event.Sandbox || ev.Audience.All || !slices.Equal(ev.Audience.Orgs, []string{"org_a"}) || !ev.Timestamp.Equal(time.Now()) {
			t.Errorf("event %+v", ev)
		}
	})
}

func TestPostEverything(t *testing.T) {
	log, in := following(t)
	res, err := in.Post(t.Context(), broadcaster, &Request{ContentType: "application/json; charset=utf-8", Body: []byte(`{"id":"my-id_1","type":"rfq.created",
		"timestamp":"2026-11-22T04:50:42.1239+02:00","key":"rfq \u00e9","corridor":"ethereum-optimism","network":"ethereum",
		"audience":["org_c","org_b","org_a","org_b"],"data":{"id":1,"type":2}}`)})
	if err != nil || string(res.Body) != `{"id":"my-id_1"}` {
		t.Fatalf("%s, %v", res.Body, err)
	}
	ev := log.events(t)[0]
	if ev.Timestamp.Format(event.TimestampLayout) != "2026-11-22T02:50:42.123Z" || ev.Key != "rfq é" || ev.Corridor != "ethereum-optimism" ||
		ev.Network != "ethereum" || !slices.Equal(ev.Audience.Orgs, []string{"org_a", "org_b", "org_c"}) ||
		ev.Members != event.MemberID|event.MemberType || ev.Environment != event.Live {
		t.Errorf("event %+v", ev)
	}
}

func TestPostBatches(t *testing.T) {
	for name, c := range map[string]struct{ contentType, body string }{
		"list":  {"application/json", `{"events":[{"type":"a.b","data":{},"id":"1"},{"type":"a.c","data":{"x":1},"id":"2","audience":"*"}]}`},
		"lines": {"application/x-ndjson", `{"type":"a.b","data":{},"id":"1"}` + "\r\n\n" + `{"type":"a.c","data":{"x":1},"id":"2","audience":"*"}`},
	} {
		t.Run(name, func(t *testing.T) {
			log, in := following(t)
			res, err := in.Post(t.Context(), broadcaster, &Request{ContentType: c.contentType, Body: []byte(c.body)})
			if err != nil || string(res.Body) != `{"ids":["1","2"]}` {
				t.Fatalf("%+v, %v", res, err)
			}
			events := log.events(t)
			if len(events) != 2 || events[0].Type != "a.b" || events[1].Type != "a.c" || !events[1].Audience.All || events[0].Audience.All {
				t.Errorf("events %+v", events)
			}
		})
	}
}

func TestPostRefuses(t *testing.T) {
	ev := `{"type":"a.b","data":{}}`
	many := strings.Repeat(ev+",", 1000)
	for _, c := range []struct {
		contentType, body string
		status            int
		path, message     string
	}{
		{"", ``, 400, "", "ends before"},
		{"", ` `, 400, "", "ends before"},
		{"", `{`, 400, "", "ends before"},
		{"", `[]`, 400, "", "must be an object"},
		{"", `"x"`, 400, "", "must be an object"},
		{"", `null`, 400, "", "must be an object"},
		{"", "\ufeff" + ev, 400, "", "not valid JSON"},
		{"", `"events":[` + ev + `]}`, 400, "", "must be an object"},
		{"", ev + ev, 400, "", "more than one value"},
		{"", ev + "\x00", 400, "", "not valid JSON"},
		{"", ev + `x`, 400, "", "not valid JSON"},
		{"", `{"type":"a.b","data":{},}`, 400, "", "not valid JSON"},
		{"", `{"type":"a.b" "data":{}}`, 400, "", "not valid JSON"},
		{"", `{"type":"a.b","data":{}`, 400, "", "ends before"},
		{"", "{\"type\":\"a.\xff\",\"data\":{}}", 400, "type", "UTF-8"},
		{"", `{"type":"a.\ud800","data":{}}`, 400, "type", "surrogate"},
		{"", `{"data":{}}`, 400, "type", "missing"},
		{"", `{"type":"a.b"}`, 400, "data", "missing"},
		{"", `{}`, 400, "type", "missing"},
		{"", `{"type":"","data":{}}`, 400, "type", "must be"},
		{"", `{"type":"a..b","data":{}}`, 400, "type", "must be"},
		{"", `{"type":"*","data":{}}`, 400, "type", "must be"},
		{"", `{"type":7,"data":{}}`, 400, "type", "must be a string"},
		{"", `{"type":null,"data":{}}`, 400, "type", "must be a string"},
		{"", `{"type":"a.` + strings.Repeat("b", 127) + `","data":{}}`, 400, "type", "128"},
		{"", `{"type":"a.b","data":[]}`, 400, "data", "must be a JSON object"},
		{"", `{"type":"a.b","data":null}`, 400, "data", "must be a JSON object"},
		{"", `{"type":"a.b","data":{"price":12345678901234567890}}`, 400, "data.price", "send it as a string"},
		{"", `{"type":"a.b","data":{"a":1,"a":2}}`, 400, "data.a", "stands twice"},
		{"", `{"type":"a.b","data":{"a":tru}}`, 400, "data.a", "not valid JSON"},
		{"", `{"type":"a.b","data":{"x":"` + strings.Repeat("x", event.MaxData) + `"}}`, 413, "data", "256 KiB"},
		{"", `{"type":"a.b","type":"a.b","data":{}}`, 400, "type", "stands twice"},
		{"", `{"type":"a.b","data":{},"audiense":"*"}`, 400, "audiense", "no member"},
		{"", `{"type":"a.b","data":{},"extra":{"x":[1,{"y":"z"}]}}`, 400, "extra", "no member"},
		{"", `{"type":"a.b","events":[],"data":{}}`, 400, "events", "no member"},
		{"", `{"type":"a.b","data":{},"id":""}`, 400, "id", "1 to 64"},
		{"", `{"type":"a.b","data":{},"id":"a b"}`, 400, "id", "1 to 64"},
		{"", `{"type":"a.b","data":{},"id":"` + strings.Repeat("x", 65) + `"}`, 400, "id", "1 to 64"},
		{"", `{"type":"a.b","data":{},"key":""}`, 400, "key", "1 to 256"},
		{"", `{"type":"a.b","data":{},"key":"a\nb"}`, 400, "key", "control"},
		{"", `{"type":"a.b","data":{},"corridor":"` + strings.Repeat("x", 129) + `"}`, 400, "corridor", "1 to 128"},
		{"", `{"type":"a.b","data":{},"network":"a\u0000"}`, 400, "network", "control"},
		{"", `{"type":"a.b","data":{},"timestamp":"not-a-date"}`, 400, "timestamp", "RFC 3339"},
		{"", `{"type":"a.b","data":{},"timestamp":"2026-11-22"}`, 400, "timestamp", "RFC 3339"},
		{"", `{"type":"a.b","data":{},"timestamp":"9999-12-31T23:59:59-01:00"}`, 400, "timestamp", "RFC 3339"},
		{"", `{"type":"a.b","data":{},"timestamp":1700000000}`, 400, "timestamp", "must be a string"},
		{"", `{"type":"a.b","data":{},"audience":"org_b"}`, 400, "audience", "must be"},
		{"", `{"type":"a.b","data":{},"audience":[]}`, 400, "audience", "must be"},
		{"", `{"type":"a.b","data":{},"audience":[7]}`, 400, "audience", "must be"},
		{"", `{"type":"a.b","data":{},"audience":{}}`, 400, "audience", "must be"},
		{"", `{"type":"a.b","data":{},"audience":["org_b","nobody","no one"]}`, 400, "audience", "no one, nobody"},
		{"", `{"events":[]}`, 400, "events", "is empty"},
		{"", `{"events":{}}`, 400, "events", "must be a list"},
		{"", `{"events":[` + ev + `],"x":1}`, 400, "x", "no member of a batch"},
		{"", `{"events":[` + ev + `,]}`, 400, "events.1", "not valid JSON"},
		{"", `{"events":[` + ev + ` ` + ev + `]}`, 400, "events", "not valid JSON"},
		{"", `{"events":[` + ev + `]`, 400, "", "ends before"},
		{"", `{"events":[` + ev + `,` + ev + `,7]}`, 400, "events.2", "must be an object"},
		{"", `{"events":[` + ev + `,{"type":"a.b","data":{"q":[0,1e999]}}]}`, 400, "events.1.data.q.1", "send it as a string"},
		{"", `{"events":[{"type":"a.b","data":{},"id":"x"},{"type":"a.b","data":{},"id":"x"}]}`, 400, "events.1.id", "same id"},
		{"", `{"events":[` + many + ev + `]}`, 400, "events", "more than 1000"},
		{"application/x-ndjson", ``, 400, "", "empty"},
		{"application/x-ndjson", ev + "\n" + `{"type":"a.b","data":{"price":12345678901234567890}}`, 400, "line.2.data.price", "send it as a string"},
		{"application/x-ndjson", ev + ev, 400, "line.1", "more than one value"},
		{"application/x-ndjson", ev + "\n{\n" + ev, 400, "line.2", "ends before"},
		{"application/x-ndjson", `{"type":"a.b","data":{},"id":"x"}` + "\n" + `{"type":"a.b","data":{},"id":"x"}`, 400, "line.2.id", "same id"},
		{"application/x-ndjson", strings.Repeat(ev+"\n", 1001), 400, "line.1001", "1001st"},
		{"text/xml", ev, 415, "", "application/json"},
		{"application/jsonx", ev, 415, "", "application/json"},
		{"", strings.Repeat(" ", MaxBody+1), 413, "", "4 MiB"},
	} {
		log := &kept{}
		_, err := newIngest(log).Post(t.Context(), broadcaster, &Request{ContentType: c.contentType, Body: []byte(c.body)})
		var refused *dialect.Error
		if !errors.As(err, &refused) {
			t.Errorf("%.80q was taken: %v", c.body, err)
			continue
		}
		path := ""
		if len(refused.Issues) > 0 {
			path = strings.Join(refused.Issues[0].Path, ".")
		}
		if refused.Status != c.status || path != c.path || !strings.Contains(refused.Message, c.message) {
			t.Errorf("%.80q: %d at %q: %s\nwant %d at %q: %s", c.body, refused.Status, path, refused.Message, c.status, c.path, c.message)
		}
		if len(log.records) != 0 {
			t.Errorf("%.80q: %d records were appended", c.body, len(log.records))
		}
	}
}

func TestPostNamesAllThatIsWrong(t *testing.T) {
	body := `{"events":[{"type":"A","data":[],"x":1},{"type":"a.b","data":{}},{"data":{"n":1e999},"audience":"me"}]}`
	_, err := newIngest(&kept{}).Post(t.Context(), broadcaster, &Request{Body: []byte(body)})
	var refused *dialect.Error
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	var paths []string
	for _, is := range refused.Issues {
		paths = append(paths, strings.Join(is.Path, "."))
	}
	want := "events.0.type events.0.data events.0.x events.2.data.n events.2.audience events.2.type"
	if strings.Join(paths, " ") != want {
		t.Errorf("issues at %v, want %s", paths, want)
	}
}

func TestPostTellsBackNoMoreThanHelps(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, body := range []string{`{"` + long + `":1}`, strings.Repeat("[", 1<<20), `{"type":"a.b","data":{"` + long[:1<<17] + `":1e999}}`} {
		_, err := newIngest(&kept{}).Post(t.Context(), broadcaster, &Request{Body: []byte(body)})
		var refused *dialect.Error
		if !errors.As(err, &refused) || len(refused.AppendJSON(nil)) > 2000 {
			t.Errorf("%.30s…: %.300s", body, err)
		}
	}
}

// refusals reads sluice_ingest_refused_total as a scrape would.
func refusals(t *testing.T, in *Ingest, code string) (n float64) {
	t.Helper()
	families, err := in.cfg.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "sluice_ingest_refused_total" && m.GetLabel()[0].GetValue() == code {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func TestPostScopes(t *testing.T) {
	for audience, status := range map[string]int{`"*"`: 403, `["org_b"]`: 403, `["org_a","nobody"]`: 403, `["org_a"]`: 202} {
		in := newIngest(&kept{})
		res, err := in.Post(t.Context(), publisher, &Request{Body: []byte(`{"type":"a.b","data":{},"audience":` + audience + `}`)})
		var refused *dialect.Error
		switch {
		case status == 202:
			if err != nil || res.Status != 202 {
				t.Errorf("audience %s: %v", audience, err)
			}
		case !errors.As(err, &refused) || refused.Status != status || refused.Issues[0].Path[0] != "audience":
			t.Errorf("audience %s: %v", audience, err)
		}
		if got := refusals(t, in, "forbidden"); status == 403 && got != 1 {
			t.Errorf("%v refusals were counted", got)
		}
	}
}

func TestPostWhenTheLogDoesnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := []byte(`{"type":"a.b","data":{}}`)
		for name, log := range map[string]*kept{"hangs": {hang: true}, "fails": {err: errors.New("broken")}, "full": {err: fmt.Errorf("append: %w", eventlog.ErrFull)}} {
			in := newIngest(log)
			begun := time.Now()
			_, err := in.Post(t.Context(), publisher, &Request{Body: body})
			var refused *dialect.Error
			if !errors.As(err, &refused) || refused.Status != 503 || refused.RetryAfter == 0 || strings.Contains(refused.Message, "broken") {
				t.Errorf("%s: %v", name, err)
			}
			if name == "hangs" && time.Since(begun) != 5*time.Second {
				t.Errorf("waited %v", time.Since(begun))
			}
			if in.inFlight.Load() != 0 {
				t.Errorf("%s: %d bytes stay in flight", name, in.inFlight.Load())
			}
		}
		// While one waits, there is no room for another.
		in := New(Config{Log: &kept{hang: true}, OrgExists: knownOrg, Logger: slog.New(slog.DiscardHandler), MaxInFlight: 100})
		go in.Post(t.Context(), publisher, &Request{Body: body})
		synctest.Wait()
		begun := time.Now()
		_, err := in.Post(t.Context(), publisher, &Request{Body: body})
		var refused *dialect.Error
		if !errors.As(err, &refused) || refused.Status != 503 || time.Since(begun) != 0 || !strings.Contains(refused.Message, "nothing was taken") {
			t.Errorf("with the log's queue full: %v", err)
		}
		time.Sleep(time.Minute)
	})
}

func TestPublish(t *testing.T) {
	log, in := following(t)
	ev := &event.Event{Environment: event.Live, Org: "org_a", Type: "payment.succeeded", Data: []byte(`{"b":1.0,"1":2}`)}
	if err := in.Publish(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
	records, err := log.Read(t.Context(), eventlog.Partition{Topic: event.Live.Topic()}, 0, 1<<20)
	if err != nil || len(records) != 1 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	got, err := event.DecodeRecord(records[0].Value)
	if err != nil || got.ID != ev.ID || ev.ID == "" || string(got.Data) != `{"1":2,"b":1}` || got.Key != "org_a" || !got.Audience.Includes("org_a") {
		t.Errorf("event %+v, %v", got, err)
	}
	for _, bad := range []*event.Event{
		{Environment: event.Live, Org: "org_a", Type: "x", Data: []byte(`{}`)},
		{Environment: event.Live, Type: "a.b", Data: []byte(`{}`)},
		{Org: "org_a", Type: "a.b", Data: []byte(`{}`)},
		{Environment: event.Live, Org: "org_a", Type: "a.b", Data: []byte(`[]`)},
	} {
		if err := in.Publish(t.Context(), bad); err == nil {
			t.Errorf("%+v was published", bad)
		}
	}
}

func FuzzPost(f *testing.F) {
	for _, s := range []string{
		`{"type":"a.b","data":{}}`, `{"events":[{"type":"a.b","data":{"x":[1]}},{"type":"a.b","data":{},"id":"1","audience":["org_a","org_b"]}]}`,
		`{"type":"a.b","data":{"a":1.0},"key":"\u00e9","timestamp":"2026-11-22T04:50:42Z","audience":"*","corridor":"c","network":"n"}`,
		"{\"type\":\"a.b\",\"data\":{}}\n{\"type\":\"a.b\",\"data\":{}}\n", `{"events":[`, `{"x":{"y":[]}}`,
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, body string, lines bool) {
		contentType := "application/json"
		if lines {
			contentType = "application/x-ndjson"
		}
		log := &kept{}
		res, err := newIngest(log).Post(t.Context(), broadcaster, &Request{ContentType: contentType, Body: []byte(body)})
		var refused *dialect.Error
		if err != nil {
			if errors.As(err, &refused) && refused.Status == 503 {
				return // it has ids, and nobody follows this log
			}
			if !errors.As(err, &refused) || len(log.records) > 0 || !json.Valid(refused.AppendJSON(nil)) {
				t.Fatalf("%q: %v, %d records", body, err, len(log.records))
			}
			return
		}
		if !json.Valid(res.Body) || len(log.records) == 0 || !lines && !json.Valid([]byte(body)) {
			t.Fatalf("%q was taken: %s, %d records", body, res.Body, len(log.records))
		}
		for _, ev := range log.events(t) {
			if !json.Valid(ev.Data) || len(ev.Audience.Orgs) == 0 && !ev.Audience.All {
				t.Fatalf("%q became %+v", body, ev)
			}
		}
	})
}

// BenchmarkParse is a single event's body to its record; BenchmarkPost has all
// but the log.
var singleBody = []byte(`{"type":"rfq.created","audience":"*","corridor":"ethereum-optimism","key":"rfq_xyz789","data":` +
	`{"rfq":{"id":"rfq_xyz789","pair":"ETH/USDC","side":"buy","amount":"1250000000000000000","price":3412.55,"taker":"org_taker","corridor":"ethereum-optimism","createdAt":"2026-11-22T02:50:42.123Z","expiresAt":"2026-11-22T02:51:12.123Z","quotes":[],"filled":false,"note":"first of two","venue":null,"n":17}}}`)

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	now := time.Now()
	for b.Loop() {
		p := parser{reader: reader{b: singleBody}, principal: broadcaster, orgExists: knownOrg, now: now}
		p.body()
		if err := p.verdict(); err != nil {
			b.Fatal(err)
		}
	}
}

type nowhere struct{ eventlog.Log }

func (nowhere) Append(_ context.Context, r []eventlog.Record) ([]int64, error) { return nil, nil }

func BenchmarkPost(b *testing.B) {
	in := newIngest(nowhere{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := in.Post(b.Context(), broadcaster, &Request{ContentType: "application/json", Body: singleBody}); err != nil {
			b.Fatal(err)
		}
	}
}
