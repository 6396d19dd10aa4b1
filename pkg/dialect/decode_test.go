package dialect_test

import (
	"testing"
	"time"

	"sluice/pkg/dialect"
)

func TestDecodeStrict(t *testing.T) {
	type request struct {
		URL    string    `json:"url"`
		Events []string  `json:"events"`
		Limit  *int      `json:"limit"`
		On     bool      `json:"on"`
		At     time.Time `json:"at"`
		In     struct {
			A string `json:"a"`
		} `json:"in"`
	}
	for _, c := range []struct{ body, want string }{
		{`{}`, ``},
		{` {"url":"x","events":["a"],"limit":3,"on":true,"at":"2027-01-31T00:00:00Z","in":{"a":"b"}} `, ``},
		{`{"url":null,"limit":null}`, ``},
		{`{"limit":15.0}`, ``},
		{`{"limit":-1.5e1}`, ``},
		{`{"limit":9007199254740993.0}`, `"path":["limit"],"message":"must be a whole number"`},
		{`{"limit":9223372036854775808}`, `"path":["limit"],"message":"must be a whole number"`},
		{``, `"path":[],"message":"the body must be a JSON object"`},
		{`null`, `"path":[],"message":"the body must be a JSON object"`},
		{`[]`, `"path":[],"message":"the body must be a JSON object"`},
		{`"x"`, `"path":[],"message":"the body must be a JSON object"`},
		{"\xef\xbb\xbf{}", `"path":[],"message":"the body must be a JSON object"`},
		{`{`, `"path":[],"message":"the body is not JSON from here on"`},
		{`{"url":"x"`, `"path":[],"message":"the body is not JSON from here on"`},
		{`{} x`, `"path":[],"message":"the body is not JSON from here on"`},
		{`{"url":"x",}`, `"path":[],"message":"the body is not JSON from here on"`},
		{`{"urls":"x"}`, `"path":["urls"],"message":"is no member of this request"`},
		{`{"URL":"x"}`, `"path":["URL"],"message":"is no member of this request"`},
		{`{"in":{"b":"x"}}`, `"path":["in","b"],"message":"is no member of this request"`},
		{`{"url":"x","url":"y"}`, `"path":["url"],"message":"stands twice"`},
		{`{"url":1}`, `"path":["url"],"message":"must be a string"`},
		{`{"url":"` + "\xff" + `"}`, `"path":["url"],"message":"the body is not JSON from here on"`},
		{`{"url":"\ud800"}`, `"path":["url"],"message":"the body is not JSON from here on"`},
		{`{"events":"x"}`, `"path":["events"],"message":"must be a list"`},
		{`{"events":["a",1]}`, `"path":["events","1"],"message":"must be a string"`},
		{`{"limit":1.5}`, `"path":["limit"],"message":"must be a whole number"`},
		{`{"limit":"1"}`, `"path":["limit"],"message":"must be a whole number"`},
		{`{"limit":1e99}`, `"path":["limit"],"message":"must be a whole number"`},
		{`{"on":1}`, `"path":["on"],"message":"must be true or false"`},
		{`{"at":"soon"}`, `"path":["at"],"message":"must be a time as RFC 3339 has it, as in 2027-01-31T00:00:00Z"`},
		{`{"in":[]}`, `"path":["in"],"message":"must be an object"`},
	} {
		var v request
		got := ""
		if e := dialect.DecodeStrict([]byte(c.body), &v); e != nil {
			got = string(e.AppendJSON(nil))
			c.want = `{"error":{"code":"bad_request","message":"the request isn't valid","issues":[{` + c.want + `}]}}`
		}
		if got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.body, got, c.want)
		}
	}
}
