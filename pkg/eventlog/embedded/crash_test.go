package embedded_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

// The child that TestKilled starts appends in this directory until it is killed.
const childVar = "SLUICE_TEST_CHILD_DIR"

var crashTopics = []eventlog.Topic{{Name: "a", Partitions: 3}, {Name: "b", Partitions: 1}, {Name: "pads", Partitions: 1}}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVar); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child appends from several goroutines, trims now and then, and prints what was
// acknowledged: "ack topic partition offset value", "trim topic partition before".
func child(dir string) {
	l, err := embedded.Open(context(), embedded.Config{Dir: dir, Topics: crashTopics, Logger: quiet})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	var mu sync.Mutex // one line at a time, each in one write
	say := func(lines []byte) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = os.Stdout.Write(lines)
	}
	fail := func(err error) {
		say(fmt.Appendf(nil, "error %v\n", err))
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := 0; ; i++ {
				recs := make([]eventlog.Record, 1+i%5)
				for j := range recs {
					p := eventlog.Partition{Topic: "a", Number: int32((w + j) % 3)}
					if j == 3 {
						p = eventlog.Partition{Topic: "b"}
					}
					recs[j] = eventlog.Record{Partition: p, Value: fmt.Appendf(nil, "%d-%d-%d-%d%s", os.Getpid(), w, i, j, strings.Repeat("x", i%700))}
				}
				offsets, err := l.Append(context(), recs)
				if err != nil {
					fail(err)
				}
				var out []byte
				for j, o := range offsets {
					out = fmt.Appendf(out, "ack %s %d %d %s\n", recs[j].Topic, recs[j].Number, o, recs[j].Value)
				}
				say(out)
				if w == 0 && i%97 == 96 {
					before := offsets[0] / 2
					if err := l.Trim(context(), recs[0].Partition, before); err != nil {
						fail(err)
					}
					say(fmt.Appendf(nil, "trim %s %d %d\n", recs[0].Topic, recs[0].Number, before))
				}
			}
		})
	}
	// So much beside them that write-ahead logs and tables begin and end all the time.
	wg.Go(func() {
		for pad := noise(512 << 10); ; {
			if _, err := l.Append(context(), []eventlog.Record{{Partition: eventlog.Partition{Topic: "pads"}, Value: pad}}); err != nil {
				fail(err)
			}
			time.Sleep(2 * time.Millisecond) // or nobody else had a turn
		}
	})
	wg.Wait()
}

// Killed at any moment, the log has every record that it acknowledged, at its
// offset, with no hole before the end, and never less trimmed than it said.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	acked := make(map[eventlog.Partition]map[int64]string)
	trimmed := make(map[eventlog.Partition]int64)
	for round := range 6 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childVar+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var kill *time.Timer // runs from the first acknowledgement: opening takes its time
		lines := bufio.NewReader(out)
		n := 0
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // what is cut off wasn't said
			}
			if kill == nil {
				kill = time.AfterFunc(time.Duration(20+round*130)*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
			f := strings.Fields(line)
			if f[0] == "error" {
				t.Fatalf("the child: %s", line)
			}
			var p eventlog.Partition
			var offset int64
			if _, err := fmt.Sscan(strings.Join(f[1:4], " "), &p.Topic, &p.Number, &offset); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if f[0] == "trim" {
				trimmed[p] = max(trimmed[p], offset)
				continue
			}
			if acked[p] == nil {
				acked[p] = make(map[int64]string)
			}
			if v, taken := acked[p][offset]; taken {
				t.Fatalf("offset %d of %v was given to %.40q and %.40q", offset, p, v, f[4])
			}
			acked[p][offset] = f[4]
			n++
		}
		if kill != nil {
			kill.Stop()
		}
		if err := cmd.Wait(); err == nil || n == 0 {
			t.Fatalf("the child ended by itself after %d records: %v\n%s", n, err, &stderr)
		}
		begin := time.Now()
		l := openAt(t, dir, crashTopics)
		opened := time.Since(begin)
		total := checkAcked(t, l, acked, trimmed)
		t.Logf("round %d: %d acknowledged and killed, %d there, opened in %v", round, n, total, opened.Round(time.Millisecond))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkAcked(t *testing.T, l eventlog.Log, acked map[eventlog.Partition]map[int64]string, trimmed map[eventlog.Partition]int64) (total int) {
	t.Helper()
	for p, want := range acked {
		start, end, err := l.Bounds(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if start < trimmed[p] {
			t.Errorf("%v begins at %d, though it was trimmed to %d", p, start, trimmed[p])
		}
		for o := range want {
			if o >= end {
				t.Errorf("offset %d of %v was acknowledged and is past the end %d", o, p, end)
			}
		}
		for at := start; at < end; {
			recs, err := l.Read(t.Context(), p, at, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range recs {
				if r.Offset != at {
					t.Fatalf("%v has a hole before %d", p, r.Offset)
				}
				if v, ok := want[at]; ok && v != string(r.Value) {
					t.Fatalf("offset %d of %v is %.40q, want %.40q", at, p, r.Value, v)
				}
				at++
				total++
			}
		}
	}
	return total
}
