package index_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/attempts"
	"sluice/pkg/attempts/attemptstest"
	"sluice/pkg/attempts/index"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

func TestSuite(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		disks := make(map[*testing.T]vfs.FS)
		attemptstest.Run(t, func(t *testing.T) attempts.Store {
			if disks[t] == nil {
				disks[t] = vfs.NewMem()
			}
			return open(t, disks[t])
		})
	})
}

// TestPowerCut: an index that wasn't closed has some of its batches, the first ones,
// and says how many.
func TestPowerCut(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s := open(t, disk)
	if err := s.Begin(t.Context(), "log"); err != nil {
		t.Fatal(err)
	}
	p := eventlog.Partition{Topic: "attempts"}
	const batches, each = 60, 50 // more than gathers in memory
	for i := range batches {
		rows := make([]attempts.Row, each)
		for j := range rows {
			n := i*each + j
			rows[j] = attempts.Row{Key: attempts.Key{Endpoint: "wh_a", Event: int64(n), Delivery: id(n)}, Environment: event.Live, Reason: strings.Repeat("r", 4<<10)}
		}
		if err := s.Merge(t.Context(), rows, []attempts.Position{{Partition: p, Next: int64(i + 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	// has gives how many batches there are, after a look at each one's ends.
	has := func(s *index.Store) int64 {
		t.Helper()
		positions, err := s.Positions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next := positions[p].Next
		for n := 0; n < batches*each; n += each - 1 {
			row, err := s.Find(t.Context(), "wh_a", id(n))
			if err != nil || (row != nil) != (int64(n/each) < next) {
				t.Fatalf("row %d: %+v, %v, where %d batches are", n, row, err, next)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return next
	}
	got := int64(0)
	for late := time.Now().Add(10 * time.Second); got == 0 && time.Now().Before(late); time.Sleep(time.Millisecond) {
		got = has(open(t, disk.CrashClone(vfs.CrashCloneCfg{})))
	}
	if got < 1 || got >= batches {
		t.Errorf("%d of %d batches after a power cut", got, batches)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := has(open(t, disk)); got != batches {
		t.Errorf("%d of %d batches after a close", got, batches)
	}
}

func open(t *testing.T, disk vfs.FS) *index.Store {
	t.Helper()
	s, err := index.Open(index.Config{Dir: "index", FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
