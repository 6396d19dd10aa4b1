package control_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

func ptr[T any](v T) *T { return &v }

// everything in a log, as text.
func everything(t *testing.T, log eventlog.Log) string {
	t.Helper()
	var all bytes.Buffer
	p := eventlog.Partition{Topic: control.Topic.Name}
	_, end, err := log.Bounds(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < end; {
		records, err := log.Read(t.Context(), p, at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			all.Write(r.Value)
			at = r.Offset + 1
		}
	}
	return all.String()
}

// Options are set one by one, over the log and a snapshot, and headers lie in
// neither as they were given.
func TestOptions(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	path := filepath.Join(t.TempDir(), "snapshot")
	c, err := withKeys(t, log, path, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	const token = "Bearer a-canary-in-a-header"
	create := newEndpoint("org_a")
	create.Options = endpoint.OptionsPatch{Ordered: ptr(true), Headers: &[]endpoint.Header{{Name: "Authorization", Value: token}, {Name: "X-b", Value: ""}}}
	made := do(t, c, create).Endpoint
	plain := do(t, c, newEndpoint("org_a")).Endpoint
	if !plain.Options.IsZero() {
		t.Errorf("without any: %+v", plain.Options)
	}
	got := do(t, c, &control.UpdateEndpoint{Endpoint: made.ID, Options: endpoint.OptionsPatch{MaxInFlight: ptr(4), RatePerSecond: ptr(0.25)}}).Endpoint
	want := endpoint.Options{Ordered: true, MaxInFlight: 4, RatePerSecond: 0.25, Headers: *create.Options.Headers}
	if !reflect.DeepEqual(got.Options, want) || got.Epoch != made.Epoch {
		t.Errorf("got %+v, want %+v", got.Options, want)
	}
	if text := everything(t, log); strings.Contains(text, "canary") || strings.Count(text, `"v":2`) != 2 {
		t.Errorf("the log has %s", text)
	}
	c.Save()
	for _, path := range []string{path, ""} {
		again, err := withKeys(t, log, path, oldKey)
		if err != nil {
			t.Fatal(err)
		}
		if got := again.Endpoint(made.ID).Options; !reflect.DeepEqual(got, want) {
			t.Errorf("read back: %+v", got)
		}
		sameState(t, c, again)
		if path == "" {
			do(t, again, &control.UpdateEndpoint{Endpoint: made.ID, Options: endpoint.OptionsPatch{
				Ordered: ptr(false), MaxInFlight: ptr(0), RatePerSecond: ptr(0.0), Headers: &[]endpoint.Header{}}})
			if got := again.Endpoint(made.ID).Options; !got.IsZero() {
				t.Errorf("taken back: %+v", got)
			}
		}
	}
}

// An earlier release must not read a command without the part that it doesn't know.
func TestOptionsInTheFirstVersionAreNoCommand(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	c := open(t, log)
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	ep := do(t, c, newEndpoint("org_a")).Endpoint
	put(t, log, `{"v":1,"op":"endpoint.update","id":"x","at":"2026-01-01T00:00:00Z","do":{"endpoint":"`+ep.ID+`","options":{"ordered":true}}}`)
	put(t, log, `{"v":2,"op":"endpoint.update","id":"y","at":"2026-01-01T00:00:00Z","do":{"endpoint":"`+ep.ID+`","options":{"asciiBody":true}}}`)
	put(t, log, `{"v":2,"op":"endpoint.update","id":"z","at":"2026-01-01T00:00:00Z","do":{"endpoint":"`+ep.ID+`","options":{"filter":"{\"$network\":\"a\"}"}}}`)
	if err := c.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.Endpoint(ep.ID).Options; got.Ordered || !got.ASCIIBody || got.Filter != "" || c.Skipped() != 2 {
		t.Errorf("%+v, %d skipped", got, c.Skipped())
	}
	do(t, c, &control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{Filter: ptr(`{"$network":"a"}`)}})
	do(t, c, &control.UpdateEndpoint{Endpoint: ep.ID, Options: endpoint.OptionsPatch{Filter: ptr(`{"network":"a"}`)}})
	if text := everything(t, log); strings.Count(text, `"v":3`) != 1 {
		t.Errorf("the log has %s", text)
	}
}

func signing(ep *endpoint.Endpoint, at time.Time) (secrets []string) {
	for _, s := range ep.AppendSigning(nil, at) {
		secrets = append(secrets, string(s))
	}
	return secrets
}

// After a rotation the secrets of before sign for the overlap, and no longer.
func TestRotateSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		c := open(t, log)
		defer c.Close()
		do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
		id := do(t, c, newEndpoint("org_a")).Endpoint.ID
		rotate := func(to string, overlap time.Duration) *endpoint.Endpoint {
			t.Helper()
			return do(t, c, &control.RotateSecret{Endpoint: id, NewSecret: control.NewSecret{Secret: endpoint.Secret(to), Overlap: int64(overlap / time.Second)}}).Endpoint
		}
		expect := func(want ...string) {
			t.Helper()
			if got := signing(c.Endpoint(id), time.Now()); !slices.Equal(got, want) {
				t.Errorf("%v sign, not %v", got, want)
			}
		}
		if got := signing(rotate("the second", time.Hour), time.Now()); !slices.Equal(got, []string{secret, "the second"}) {
			t.Errorf("who rotated has %v", got)
		}
		expect(secret, "the second")
		time.Sleep(30 * time.Minute)
		rotate("the third", 2*time.Hour) // while an overlap goes on: nothing of it is cut
		expect(secret, "the second", "the third")
		time.Sleep(30 * time.Minute)
		expect("the second", "the third")
		rotate("the fourth", 10*time.Minute) // it is none longer than this
		expect("the second", "the third", "the fourth")
		time.Sleep(10 * time.Minute)
		expect("the fourth")
		for range control.MaxPrevious {
			rotate("another", time.Minute)
		}
		refused(t, c, &control.RotateSecret{Endpoint: id, NewSecret: control.NewSecret{Secret: []byte("one more"), Overlap: 60}}, control.ErrLimit)
		rotate("at once", 0)
		expect("at once")
		refused(t, c, &control.RotateSecret{Endpoint: "wh_none", NewSecret: control.NewSecret{Secret: []byte("x")}}, control.ErrNotFound)

		other := open(t, log)
		defer other.Close()
		sameState(t, c, other)
		if text := everything(t, log); strings.Contains(text, "the second") || strings.Contains(text, "at once") {
			t.Errorf("the log has %s", text)
		}
	})
}

// An event is owed to those whose filter it meets, however it reaches them, and
// whichever way the state came about.
func TestMatchingWithFilters(t *testing.T) {
	log := eventlogtest.Mem(t, topics...)
	path := filepath.Join(t.TempDir(), "snapshot")
	c, err := withKeys(t, log, path, oldKey)
	if err != nil {
		t.Fatal(err)
	}
	do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
	make := func(filter string) string {
		cmd := newEndpoint("org_a")
		if filter != "" {
			cmd.Options.Filter = &filter
		}
		return do(t, c, cmd).Endpoint.ID
	}
	all, dear, dearToo, cheap := make(""), make(`{"price":{"gte":100}}`), make(`{"price":{"gte":100}}`), make(`{"price":{"lt":100}}`)
	var many []string
	for i := range 20 { // more than are remembered for an event
		many = append(many, make(fmt.Sprintf(`{"n":%d}`, i)))
	}
	expect := func(c *control.Control, data string, want ...string) {
		t.Helper()
		for _, audience := range []event.Audience{{All: true}, {Orgs: []string{"org_a"}}} {
			got := c.Matching(&event.Event{Type: "rfq.made", Environment: event.Sandbox, Audience: audience, Data: []byte(data)})
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", data, got, want)
			}
		}
	}
	check := func(c *control.Control) {
		t.Helper()
		expect(c, `{}`, all)
		expect(c, `{"price":100}`, all, dear, dearToo)
		expect(c, `{"price":"99.99"}`, all, cheap)
		expect(c, `{"n":19,"price":1}`, all, cheap, many[19])
		expect(c, `{"n":3}`, all, many[3])
	}
	check(c)
	c.Save()
	for _, path := range []string{path, ""} {
		again, err := withKeys(t, log, path, oldKey)
		if err != nil {
			t.Fatal(err)
		}
		check(again)
		sameState(t, c, again)
	}
	// A change acts on what comes from then on.
	do(t, c, &control.UpdateEndpoint{Endpoint: dear, Options: endpoint.OptionsPatch{Filter: ptr(`{"n":{"exists":true}}`)}})
	do(t, c, &control.UpdateEndpoint{Endpoint: cheap, Options: endpoint.OptionsPatch{Filter: ptr("")}})
	expect(c, `{"price":100}`, all, cheap, dearToo)
	expect(c, `{"n":"x"}`, all, cheap, dear)
	do(t, c, &control.DeleteEndpoint{Endpoint: dearToo})
	expect(c, `{"price":100}`, all, cheap)
	// One that no release can make sense of is skipped by all.
	if _, err := c.Do(t.Context(), &control.UpdateEndpoint{Endpoint: cheap, Options: endpoint.OptionsPatch{Filter: ptr(`{"$what":1}`)}}); err == nil {
		t.Error("a filter that isn't one was taken")
	}
}
