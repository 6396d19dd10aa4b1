package embedded_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/pkg/eventlog"
)

// A backup under load has everything that was acknowledged before it, of every
// partition up to one moment, says that it is one until that is settled, and
// shares nothing with the original that either of them would change.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	l := openAt(t, dir, crashTopics)
	fill(t, l, eventlog.Partition{Topic: "a"}, 3000, 10_000) // some of it in tables
	if l.Copied() {
		t.Error("the original takes itself for a copy")
	}
	var (
		wg   sync.WaitGroup
		stop = make(chan struct{})
	)
	for n := range int32(3) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					// b is always written together with a: a copy of one moment has as many.
					fill2(t, l, eventlog.Partition{Topic: "a", Number: n}, eventlog.Partition{Topic: "b"})
				}
			}
		})
	}
	<-time.After(200 * time.Millisecond)
	before := ends(t, l)
	copied := filepath.Join(t.TempDir(), "copies", "first")
	begun := time.Now()
	if err := l.Backup(copied); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	close(stop)
	wg.Wait()
	after := ends(t, l) // behind what the copy caught before readers saw it
	if err := l.Backup(copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second backup to the same place: %v", err)
	}

	c := openAt(t, copied, crashTopics)
	if !c.Copied() {
		t.Error("the copy doesn't know that it is one")
	}
	var fromA int64
	for p, end := range ends(t, c) {
		if end < before[p] || end > after[p] {
			t.Errorf("%v ends at %d in the copy; it was at %d before and %d after", p, end, before[p], after[p])
		}
		if p.Topic == "a" {
			fromA += end
		}
	}
	if b := ends(t, c)[eventlog.Partition{Topic: "b"}]; fromA-3000 != b {
		t.Errorf("%d records of a and %d of b, which were written together", fromA-3000, b)
	}
	t.Logf("%d records in %v, under load", fromA, took.Round(time.Millisecond))
	if size, err := c.Verify(t.Context()); err != nil || size < 30_000_000 {
		t.Errorf("verified %d bytes: %v", size, err)
	}
	fill(t, c, eventlog.Partition{Topic: "a"}, 1000, 10_000)
	if err := c.Trim(t.Context(), eventlog.Partition{Topic: "a"}, 2000); err != nil {
		t.Fatal(err)
	}
	if err := c.SettleCopied(); err != nil || c.Copied() {
		t.Errorf("settled: %v, and a copy still: %t", err, c.Copied())
	}
	if _, err := l.Verify(t.Context()); err != nil {
		t.Errorf("the original, after the copy was worked on: %v", err)
	}
}

func fill2(t *testing.T, l eventlog.Log, a, b eventlog.Partition) {
	if _, err := l.Append(t.Context(), []eventlog.Record{{Partition: a, Value: noise(2000)}, {Partition: b, Value: noise(100)}}); err != nil {
		t.Error(err)
	}
}

func ends(t *testing.T, l eventlog.Log) map[eventlog.Partition]int64 {
	t.Helper()
	all := make(map[eventlog.Partition]int64)
	for _, topic := range crashTopics {
		for n := range topic.Partitions {
			p := eventlog.Partition{Topic: topic.Name, Number: n}
			_, end, err := l.Bounds(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			all[p] = end
		}
	}
	return all
}

// Nobody need read a damaged block for it to be found: it is named soon after the
// start, with partition, file and what to do; new records are taken all the same.
func TestDamageIsFound(t *testing.T) {
	dir := killedLog(t, 10_000, 8000)
	path, size := largest(t, dir, ".sst")
	flip(t, path, size/2)
	l := openAt(t, dir, one)
	begun := time.Now()
	for l.Healthy() == nil {
		if time.Since(begun) > time.Minute {
			t.Fatal("the damage wasn't found")
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Logf("found after %v", time.Since(begun).Round(time.Millisecond))
	wantNamed(t, l.Healthy(), filepath.Base(path))
	if _, err := l.Verify(t.Context()); err == nil {
		t.Error("Verify found nothing")
	} else {
		wantNamed(t, errors.Join(err, l.Healthy()), filepath.Base(path))
	}
	fill(t, l, p0, 10, 100)
	if recs, err := l.Read(t.Context(), p0, 10_000, 1<<20); err != nil || len(recs) != 10 {
		t.Errorf("what was appended since: %d records, %v", len(recs), err)
	}
}

func wantNamed(t *testing.T, err error, file string) {
	t.Helper()
	for _, part := range []string{`partition 0 of topic "a"`, file, "from offset", "backup"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't say %q", err, part)
		}
	}
}

// What is left of the last record after a power cut is cut off. Pebble can't tell
// a byte that flipped there from that: only what lies some blocks before the end
// of the newest write-ahead log is known to have been synced.
func TestTailOfWAL(t *testing.T) {
	for name, c := range map[string]struct {
		harm    func(t *testing.T, path string, used int64)
		refused bool
	}{
		"cut in the last record": {func(t *testing.T, path string, used int64) { truncate(t, path, used-2500) }, false},
		"cut and filled with zero": {func(t *testing.T, path string, used int64) {
			truncate(t, path, used-2500)
			truncate(t, path, used+5000)
		}, false},
		"flipped in the last": {func(t *testing.T, path string, used int64) { flip(t, path, used-2500) }, false},
		"flipped before":      {func(t *testing.T, path string, used int64) { flip(t, path, used-200_000) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, copied := t.TempDir(), filepath.Join(t.TempDir(), "log")
			l := openAt(t, dir, one)
			for range 300 {
				fill(t, l, p0, 1, 5000)
			}
			logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
			if err != nil {
				t.Fatal(err)
			}
			path := slices.Max(logs) // the newest
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			path = filepath.Join(copied, filepath.Base(path))
			c.harm(t, path, int64(len(bytes.TrimRight(raw, "\x00")))) // it may be longer than what is used
			if c.refused {
				wantDamaged(t, copied, strings.TrimSuffix(filepath.Base(path), ".log"))
				return
			}
			if recs, err := openAt(t, copied, one).Read(t.Context(), p0, 0, 10<<20); err != nil || len(recs) != 299 {
				t.Errorf("%d records of 300, %v; want 299", len(recs), err)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}
