package endpoint

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// However an endpoint is printed, what only its receiver may know isn't.
func TestPrintsAsRedacted(t *testing.T) {
	ep := &Endpoint{
		ID: "wh_1", Secret: Secret("canary"), Previous: []Retired{{Secret: Secret("canary"), Until: time.Now()}},
		Options: Options{Headers: []Header{{Name: "X-Team", Value: "canary"}}},
	}
	patch := OptionsPatch{Headers: &ep.Options.Headers}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).Info("m", "secret", ep.Secret, "header", ep.Options.Headers[0], "headers", fmt.Sprint(ep.Options.Headers))
	}
	text := log.String() + fmt.Sprintf("%v %+v %#v %s", *ep, *ep, *ep, ep.Options.Headers) + fmt.Sprintf("%v %+v", *patch.Headers, ep.Previous)
	if strings.Contains(text, "canary") || !strings.Contains(text, "X-Team") {
		t.Error(text)
	}
}

func TestReserved(t *testing.T) {
	for name, want := range map[string]bool{
		"Host": true, "TE": true, "Content-MD5": true, "x-forwarded-host": true, "Metadata": true, "Webhook-Anything": true,
		"Authorization": false, "X-Team": false, "Hosting": false, "Tea": false, "Contents": false, "X-Api-Key": false, "Webhook": false,
	} {
		if Reserved(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
