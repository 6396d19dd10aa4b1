package embedded_test

import (
	"log/slog"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
	"sluice/pkg/eventlog/eventlogtest"
)

var quiet = slog.New(slog.DiscardHandler)

// opener opens the log of each test again and again in the same place.
func opener[P any](place func(testing.TB) P, config func(P) embedded.Config) eventlogtest.Open {
	var mu sync.Mutex
	places := make(map[testing.TB]P)
	return func(t testing.TB, topics []eventlog.Topic) eventlog.Log {
		t.Helper()
		mu.Lock()
		at, known := places[t]
		if !known {
			at = place(t)
			places[t] = at
		}
		mu.Unlock()
		cfg := config(at)
		cfg.Topics, cfg.Logger = topics, quiet
		l, err := embedded.Open(t.Context(), cfg)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		return l
	}
}

func TestOnDisk(t *testing.T) {
	eventlogtest.Run(t, opener(testing.TB.TempDir, func(dir string) embedded.Config { return embedded.Config{Dir: dir} }))
}

func TestInMemory(t *testing.T) {
	eventlogtest.Run(t, opener(func(testing.TB) vfs.FS { return vfs.NewMem() }, func(fs vfs.FS) embedded.Config {
		return embedded.Config{Dir: "mem", FS: fs}
	}))
}
