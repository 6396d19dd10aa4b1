package manage_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/gateway/manage"
	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/filter"
)

func ptr[T any](v T) *T { return &v }

func TestOptionsAreChecked(t *testing.T) {
	w := openWorld(t)
	made, err := w.core.CreateEndpoint(t.Context(), owner, spec())
	if err != nil {
		t.Fatal(err)
	}
	type header = [2]string // name, value
	headers := func(pairs ...header) *[]endpoint.Header {
		list := []endpoint.Header{}
		for _, p := range pairs {
			list = append(list, endpoint.Header{Name: p[0], Value: p[1]})
		}
		return &list
	}
	many := func(n, bytes int) (out []header) {
		for i := range n {
			out = append(out, header{fmt.Sprintf("X-%02d", i), strings.Repeat("v", bytes-4)})
		}
		return out
	}
	for _, c := range []struct {
		name  string
		patch endpoint.OptionsPatch
		path  string // of the only issue; empty: it is good
	}{
		{"none", endpoint.OptionsPatch{}, ""},
		{"headers", endpoint.OptionsPatch{Headers: headers(header{"Authorization", "Bearer a\tb"}, header{"x_y", ""})}, ""},
		{"20 headers of 4096 bytes", endpoint.OptionsPatch{Headers: headers(append(many(19, 200), header{"Z", strings.Repeat("v", 295)})...)}, ""},
		{"21 headers", endpoint.OptionsPatch{Headers: headers(many(21, 5)...)}, "headers"},
		{"4097 bytes", endpoint.OptionsPatch{Headers: headers(header{"X", strings.Repeat("v", 4096)})}, "headers"},
		{"empty name", endpoint.OptionsPatch{Headers: headers(header{"", "v"})}, "headers "},
		{"name with a colon", endpoint.OptionsPatch{Headers: headers(header{"X: a", "v"})}, "headers X: a"},
		{"name with a line", endpoint.OptionsPatch{Headers: headers(header{"X\r\nY", "v"})}, "headers X\r\nY"},
		{"value with a line", endpoint.OptionsPatch{Headers: headers(header{"X", "a\r\nY: b"})}, "headers X"},
		{"value with NUL", endpoint.OptionsPatch{Headers: headers(header{"X", "\x00"})}, "headers X"},
		{"value beyond ASCII", endpoint.OptionsPatch{Headers: headers(header{"X", "ü"})}, "headers X"},
		{"value with blanks around", endpoint.OptionsPatch{Headers: headers(header{"X", " v"})}, "headers X"},
		{"twice", endpoint.OptionsPatch{Headers: headers(header{"X-A", "1"}, header{"x-a", "2"})}, "headers x-a"},
		{"the dialect's", endpoint.OptionsPatch{Headers: headers(header{"x-d-SIGNATURE", "1"})}, "headers x-d-SIGNATURE"},
		{"most at once", endpoint.OptionsPatch{MaxInFlight: ptr(endpoint.MaxMaxInFlight), RatePerSecond: ptr(0.01)}, ""},
		{"taken back", endpoint.OptionsPatch{Filter: ptr(""), MaxInFlight: ptr(0), RatePerSecond: ptr(0.0), Headers: headers()}, ""},
		{"too many at once", endpoint.OptionsPatch{MaxInFlight: ptr(endpoint.MaxMaxInFlight + 1)}, "maxInFlight"},
		{"filter", endpoint.OptionsPatch{Filter: ptr(`{"a.b":{"gte":1}}`)}, ""},
		{"filter that is no object", endpoint.OptionsPatch{Filter: ptr(`[]`)}, "filter"},
		{"filter with an unknown operator", endpoint.OptionsPatch{Filter: ptr(`{"$or":[{"a":1},{"b":{"like":"x"}}]}`)}, "filter $or 1 b like"},
		{"filter with a number that no double is", endpoint.OptionsPatch{Filter: ptr(`{"a":9007199254740993}`)}, "filter a"},
		{"filter that is too long", endpoint.OptionsPatch{Filter: ptr(`{"a":"` + strings.Repeat("x", filter.MaxText) + `"}`)}, "filter"},
		{"fewer than none", endpoint.OptionsPatch{MaxInFlight: ptr(-1)}, "maxInFlight"},
		{"backwards", endpoint.OptionsPatch{RatePerSecond: ptr(-0.5)}, "ratePerSecond"},
		{"too fast", endpoint.OptionsPatch{RatePerSecond: ptr(10_001.0)}, "ratePerSecond"},
	} {
		s := spec()
		s.Options = c.patch
		_, createErr := w.core.CreateEndpoint(t.Context(), owner, s)
		_, patchErr := w.core.PatchEndpoint(t.Context(), owner, made.ID, dialect.EndpointPatch{Options: c.patch})
		for verb, err := range map[string]error{"create": createErr, "patch": patchErr} {
			if c.path == "" {
				if err != nil {
					t.Errorf("%s with %s: %v", verb, c.name, err)
				}
				continue
			}
			e := wantError(t, err, 400, dialect.BadRequest)
			if len(e.Issues) != 1 || strings.Join(e.Issues[0].Path, " ") != c.path {
				t.Errorf("%s with %s: %+v", verb, c.name, e.Issues)
			}
		}
	}
	for _, name := range []string{"Host", "CONTENT-LENGTH", "content-type", "Content-Encoding", "Transfer-Encoding", "TE", "Connection", "Upgrade", "Expect", "Trailer",
		"User-Agent", "Proxy-Authorization", "Cookie", "Webhook-Id", "webhook-signature", "X-Forwarded-For", "Forwarded", "X-Aws-Ec2-Metadata-Token", "Metadata-Flavor"} {
		_, err := w.core.PatchEndpoint(t.Context(), owner, made.ID, dialect.EndpointPatch{Options: endpoint.OptionsPatch{Headers: headers(header{name, "v"})}})
		if e := wantError(t, err, 400, dialect.BadRequest); !strings.Contains(e.Issues[0].Message, "reserved") {
			t.Errorf("%s: %+v", name, e.Issues)
		}
	}
}

// What one patch sets another doesn't undo, and who can't see an endpoint can't set
// anything of it.
func TestOptionsAreSetOneByOne(t *testing.T) {
	w := openWorld(t)
	s := spec()
	s.Options = endpoint.OptionsPatch{ASCIIBody: ptr(true), Filter: ptr(` { "b" : 1.0, "a":{"prefix":"\u0041"} } `)}
	made, err := w.core.CreateEndpoint(t.Context(), owner, s)
	if err != nil {
		t.Fatal(err)
	}
	patch := dialect.EndpointPatch{Options: endpoint.OptionsPatch{Headers: &[]endpoint.Header{{Name: "X-A", Value: "1"}}}}
	for _, p := range []*dialect.EndpointPatch{&patch, {Description: ptr("other")}} {
		if _, err := w.core.PatchEndpoint(t.Context(), owner, made.ID, *p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.core.Endpoint(t.Context(), owner, made.ID)
	if err != nil || !got.Options.ASCIIBody || got.Options.Filter != `{"b":1,"a":{"prefix":"A"}}` || len(got.Options.Headers) != 1 || got.Options.Headers[0] != (endpoint.Header{Name: "X-A", Value: "1"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, other := range []string{"stranger", "live"} {
		p := stranger
		if other == "live" {
			p = ownerLive
		}
		_, err := w.core.PatchEndpoint(t.Context(), p, made.ID, patch)
		wantError(t, err, 404, dialect.NotFound)
		_, err = w.core.RotateSecret(t.Context(), p, made.ID, 0)
		wantError(t, err, 404, dialect.NotFound)
	}
}

func TestRotateSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openWorld(t)
		defer w.control.Close()
		made, err := w.core.CreateEndpoint(t.Context(), owner, spec())
		if err != nil {
			t.Fatal(err)
		}
		for _, overlap := range []int64{-1, manage.MaxOverlap + 1} {
			_, err := w.core.RotateSecret(t.Context(), owner, made.ID, overlap)
			if e := wantError(t, err, 400, dialect.BadRequest); e.Issues[0].Path[0] != "overlapSeconds" {
				t.Errorf("%+v", e.Issues)
			}
		}
		got, err := w.core.RotateSecret(t.Context(), owner, made.ID, manage.MaxOverlap)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(got.Secret), "whsec_")); err != nil || len(raw) != 32 || bytes.Equal(got.Secret, made.Secret) {
			t.Errorf("the new secret is of %d bytes: %v", len(raw), err)
		}
		if len(got.Previous) != 1 || string(got.Previous[0].Secret) != string(made.Secret) || got.Previous[0].Until.Sub(time.Now().Truncate(time.Millisecond)) != manage.MaxOverlap*time.Second {
			t.Errorf("beside it: %d, until %v", len(got.Previous), got.Previous)
		}
		for range control.MaxPrevious - 1 {
			if _, err := w.core.RotateSecret(t.Context(), owner, made.ID, 60); err != nil {
				t.Fatal(err)
			}
		}
		_, err = w.core.RotateSecret(t.Context(), owner, made.ID, 60)
		if e := wantError(t, err, 409, dialect.Conflict); !strings.Contains(e.Message, "overlapSeconds 0") {
			t.Error(e.Message)
		}
		if got, err = w.core.RotateSecret(t.Context(), owner, made.ID, 0); err != nil || len(got.Previous) != 0 {
			t.Errorf("%d beside it: %v", len(got.Previous), err)
		}
	})
}
