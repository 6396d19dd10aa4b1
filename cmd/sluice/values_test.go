package main

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]struct {
		bytes int64
		again string // as it is printed
	}{
		"0": {0, "0"}, "10GiB": {10 << 30, "10GiB"}, "500MB": {500e6, "500000000"}, "1 TiB": {1 << 40, "1TiB"}, "2048": {2048, "2KiB"}, "7B": {7, "7"},
		"": {-1, ""}, "GiB": {-1, ""}, "-1GiB": {-1, ""}, "1.5GiB": {-1, ""}, "10 gigs": {-1, ""}, "9999999999GiB": {-1, ""},
	} {
		var n size
		err := n.UnmarshalText([]byte(text))
		if (err != nil) != (want.bytes < 0) || err == nil && (int64(n) != want.bytes || n.String() != want.again) {
			t.Errorf("%q is %d, printed %s: %v", text, int64(n), n, err)
		}
	}
}

func TestOrigins(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "https://app.example.com": "https://app.example.com", "HTTPS://App.Example, http://localhost:3000": "https://app.example,http://localhost:3000", "https://[::1]:8443": "https://[::1]:8443",
		"*": "refused", "null": "refused", "app.example": "refused", "https://": "refused", "https://a/": "refused", "https://a/b": "refused", "https://u@a": "refused",
		"https://a:443": "refused", "http://a:80": "refused", "ws://a": "refused", "https://a,": "refused", "https://a?": "refused", "https://a#": "refused",
	} {
		var o origins
		err := o.UnmarshalText([]byte(text))
		if (err != nil) != (want == "refused") || err == nil && o.String() != want {
			t.Errorf("%q is %s: %v", text, o, err)
		}
	}
}
