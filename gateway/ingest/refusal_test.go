package ingest

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A log that fails every request is told of now and then, with how many.
func TestFailuresAreToldSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		in := New(Config{Log: &kept{err: errors.New("broken")}, OrgExists: knownOrg, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		for range 150 { // in 15 s
			if status, _, _ := post(t, in, publisher, &Request{Header: headers(nil), Body: []byte(`{"type":"a.b","data":{}}`)}); status != 503 {
				t.Fatalf("status %d", status)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if got := out.String(); strings.Count(got, "events not appended") != 2 || !strings.Contains(got, `"not shown before"=99`) {
			t.Errorf("150 failures in 15 s are told as:\n%s", got)
		}
	})
}
