package bench

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// TestProfiles has two processes of a row profiled, one after the other, and one that
// is gone before it says anything.
func TestProfiles(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	server := httptest.NewServer(mux)
	defer server.Close()
	ops := strings.TrimPrefix(server.URL, "http://")

	p := &profiles{dir: t.TempDir(), row: "some"}
	for range 2 {
		p.watch(ops)()
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	p.watch(strings.TrimPrefix(gone.URL, "http://"))()
	if err := p.write(); err != nil {
		t.Fatal(err)
	}
	read := func(name string) *profile.Profile {
		text, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := profile.ParseData(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	if cpu := read("some.cpu.pprof"); cpu.PeriodType.Type != "cpu" || cpu.DurationNanos < 2*slice.Nanoseconds() {
		t.Errorf("a profile of %s has %d ns of both", cpu.PeriodType.Type, cpu.DurationNanos)
	}
	if heap := read("some.heap.pprof"); heap.PeriodType.Type != "space" {
		t.Errorf("the heap is one of %s", heap.PeriodType.Type)
	}

	none := &profiles{dir: t.TempDir(), row: "none"}
	none.watch(strings.TrimPrefix(gone.URL, "http://"))()
	if err := none.write(); err == nil || !strings.Contains(err.Error(), "profile none:") {
		t.Errorf("of no process there is a profile: %v", err)
	}
}
