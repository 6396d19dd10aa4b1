package notice

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/pkg/control"
)

func TestRecord(t *testing.T) {
	at := time.Date(2026, 11, 22, 9, 0, 0, 5e6, time.UTC)
	want := record{V: version, Kind: kindTold, Endpoint: "wh_a", told: told{Published: at, Mailed: at, Missed: 3, MissedAt: at, WarnedAt: at}}
	got, err := decode(encode(&want).Value)
	if err != nil || *got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := decode(Failing("wh_a", 2, at, "timeout").Value); err != nil || got.Kind != kindFailing || got.Epoch != 2 || !got.Since.Equal(at) {
		t.Errorf("%+v, %v", got, err)
	}
	// Of a later release: members and kinds that aren't known are none of ours.
	if got, err := decode([]byte(`{"v":1,"kind":"new","endpoint":"wh_a","more":[1]}`)); err != nil || got.Kind != "new" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "{}", `{"v":2,"kind":"told"}`, `{"v":1,"endpoint":7}`, "null"} {
		if got, err := decode([]byte(bad)); err == nil {
			t.Errorf("%s is %+v", bad, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Recovered("wh_a").Value)
	f.Add(encode(&record{Kind: kindTold, told: told{Mailed: time.Unix(1, 0).UTC()}}).Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decode(value)
		if err != nil {
			return
		}
		if again, err := decode(encode(r).Value); err != nil || again.told.Missed != r.told.Missed || again.Endpoint != r.Endpoint {
			t.Errorf("%+v becomes %+v, %v", r, again, err)
		}
	})
}

// A mail names so many endpoints and counts the rest, and what comes from others
// ends none of its lines.
func TestCompose(t *testing.T) {
	var items []item
	for i := range listed + 7 {
		items = append(items, item{about: disabled, endpoint: fmt.Sprintf("wh_%d", i), url: "https://x/\r\n.\r\n", reason: "a\nb", at: time.Unix(0, 0), times: 1})
	}
	m := compose(&control.Org{ID: "org", Name: "A\r\nB", Email: "ops@example.com"}, items)
	if m.Subject != "57 webhook endpoints were disabled" || m.To != "ops@example.com" || strings.Contains(m.Text, "\r") || strings.Contains(m.Text, "\n.") {
		t.Errorf("%+v", m)
	}
	if n := strings.Count(m.Text, "    wh_"); n != listed || !strings.Contains(m.Text, "\nand 7 more") {
		t.Errorf("it names %d", n)
	}
	if other := compose(&control.Org{ID: "org"}, items[1:]); other.ID == m.ID {
		t.Error("another mail has the same id")
	}
}

func TestAddress(t *testing.T) {
	for url, want := range map[string]string{
		"https://user:word@example.com:8443/a%2Fb?token=x#y": "https://example.com:8443/a%2Fb",
		"http://[::1]/":  "http://[::1]/",
		"http://%zz\x00": "",
	} {
		if got := address(url); got != want {
			t.Errorf("%s is %s, want %s", url, got, want)
		}
	}
}
