package event

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

const plainEvent = `{"id":"order-7","org":"org_a","type":"order.paid","data":{ "total":45000.0,"2":0,"type":"x" },
	"audience":["org_b","org_a","org_b"],"key":"order-7","corridor":"a-b","network":"n","timestamp":"2026-11-22T04:10:00.1239+01:00"}`

func TestPlain(t *testing.T) {
	logged := time.Date(2026, 11, 22, 5, 0, 0, 987654321, time.UTC)
	ev, err := FromLog([]byte(plainEvent), Live, 42, logged)
	if err != nil {
		t.Fatal(err)
	}
	want := &Event{
		ID: "order-7", Type: "order.paid", Timestamp: time.Date(2026, 11, 22, 3, 10, 0, 123e6, time.UTC), Environment: Live, Org: "org_a",
		Audience: Audience{Orgs: []string{"org_a", "org_b"}}, Key: "order-7", Corridor: "a-b", Network: "n",
		Data: []byte(`{"2":0,"total":45000,"type":"x"}`), Members: MemberType, Claim: ev.Claim, Offset: 42, Logged: logged,
	}
	if !reflect.DeepEqual(ev, want) || ev.Claim == (Claim{}) {
		t.Errorf("got  %+v\nwant %+v", ev, want)
	}

	least, err := FromLog([]byte(`{"id":"order-7","org":"org_b","type":"order.paid","data":{}}`), Sandbox, 0, logged)
	if err != nil {
		t.Fatal(err)
	}
	want = &Event{ID: "order-7", Type: "order.paid", Timestamp: time.Date(2026, 11, 22, 5, 0, 0, 987e6, time.UTC), Environment: Sandbox, Org: "org_b",
		Audience: Audience{Orgs: []string{"org_b"}}, Data: []byte(`{}`), Claim: least.Claim, Logged: logged}
	if !reflect.DeepEqual(least, want) {
		t.Errorf("got  %+v\nwant %+v", least, want)
	}

	// One that is sent again is told from one of another org.
	var d Doubles
	again := *ev
	again.Offset++
	if d.Double(ev) || d.Double(least) || !d.Double(&again) {
		t.Error("the second of two with an id and an org isn't known as such, or another is")
	}
}

func TestPlainRefuses(t *testing.T) {
	members := func(more string) string { return `{"id":"a","org":"o","type":"a.b","data":{}` + more + `}` }
	for value, says := range map[string]string{
		`{`:                                                  "damaged",
		`{}`:                                                 "id must have",
		members(`,"audiance":"*"`):                           "audiance is no member of an event",
		members(`,"id":"b"`):                                 "id: the name stands twice",
		members(`,"audience":"org_b"`):                       "audience must be",
		members(`,"audience":[]`):                            "audience must be",
		members(`,"audience":["a",1]`):                       "audience must be",
		members(`,"audience":["a\u0001"]`):                   "names what is no org id",
		members(`,"key":""`):                                 "key is empty",
		members(`,"key":7`):                                  "key",
		members(`,"key":null`):                               "key is of the wrong kind",
		members(`,"timestamp":null`):                         "timestamp is of the wrong kind",
		members(`,"network":{}`):                             "network is of the wrong kind",
		members(`,"audience":null`):                          "audience must be",
		members(`,"audience":["*"]`):                         "audience must be",
		members(`,"network":"a\nb"`):                         "network must have",
		members(`,"timestamp":"yesterday"`):                  "timestamp",
		members(`,"timestamp":1795315842123`):                "timestamp",
		members("") + members(""):                            "damaged",
		"{\"id\":\"a\",\"org\":\"\xff\"}":                    "UTF-8",
		`{"org":"o","type":"a.b","data":{}}`:                 "id must have",
		`{"id":"a","type":"a.b","data":{}}`:                  "org is missing",
		`{"id":"a","org":"o","data":{}}`:                     "type is none",
		`{"id":"a","org":"o","type":"a.b"}`:                  "data is missing",
		strings.Replace(plainEvent, `{ "t`, `[ "t`, 1):       "damaged",
		strings.Replace(members(""), `{}`, `[]`, 1):          "must be a JSON object",
		strings.Replace(members(""), `{}`, `{"a":1e999}`, 1): "data.a",
		strings.Replace(members(""), `{}`, strings.Repeat(`{"a":`, 64)+"1"+strings.Repeat("}", 64), 1): "",
		strings.Replace(members(""), `{}`, strings.Repeat(`{"a":`, 65)+"1"+strings.Repeat("}", 65), 1): ": data nests deeper",
		strings.Replace(members(""), `{}`, strings.Repeat(`{"a":`, 20000), 1):                          "damaged",
		strings.Replace(members(""), `{}`, `{"a":"`+strings.Repeat("x", MaxData)+`"}`, 1):              "more than 256 KiB",
		members(`,"key":"` + strings.Repeat("k", MaxKey+1) + `"`):                                      "key must have",
		members(`,"audience":["` + strings.Repeat(`a","`, MaxAudience) + `b"]`):                        "",
		members(`,"` + strings.Repeat("x", 100<<10) + `":1`):                                           "damaged",
	} {
		_, err := FromLog([]byte(value), Live, 0, time.Now())
		if says == "" && err != nil || says != "" && (!errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%.100s: %v, want %q", value, err, says)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%.100s: an error of %d bytes", value, len(err.Error()))
		}
	}
}

func TestFromLogRefuses(t *testing.T) {
	if _, err := FromLog(sample().AppendRecord(nil), Sandbox, 0, time.Now()); !errors.Is(err, ErrEnvironment) {
		t.Errorf("another environment: %v", err)
	}
	for _, value := range []string{" {}", "\xef\xbb\xbf{}", "[]", "\x02", "\x00"} {
		if _, err := FromLog([]byte(value), Live, 0, time.Now()); !errors.Is(err, ErrVersion) {
			t.Errorf("%q: %v", value, err)
		}
	}
}
