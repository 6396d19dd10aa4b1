package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/pkg/control"
)

// earlier builds the release that testdata/earlier names: a commit of this
// repository with which this one must get along. Whoever changes a format so that
// it can't, in two releases as docs/record-format.md says, names a later one there.
var earlier = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile(filepath.Join("testdata", "earlier"))
	if err != nil {
		return "", err
	}
	commit := strings.TrimSpace(string(text))
	dir, err := os.MkdirTemp("", "sluice-earlier-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(filepath.Join(dir, "src"))
	build := fmt.Sprintf(`set -e; mkdir -p %[1]s/src; git -C ../.. archive %[2]s | tar -x -C %[1]s/src; cd %[1]s/src; go build -buildvcs=false -o %[1]s/sluice ./cmd/sluice`, dir, commit)
	if out, err := exec.Command("bash", "-c", build).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build commit %s of testdata/earlier: %w: %s", commit, err, out)
	}
	return filepath.Join(dir, "sluice"), nil
})

func earlierRelease(t *testing.T) string {
	t.Helper()
	if err := exec.Command("git", "-C", "../..", "rev-parse", "--git-dir").Run(); err != nil {
		t.Skip("this is no checkout of git: there is no earlier release to build")
	}
	bin, err := earlier()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// stop ends the process as a rolling upgrade does.
func (p *process) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("it stopped with %v: %s", err, p.messages)
	}
}

// ledger is what was published to whom, and a receiver that refuses the first
// attempt of every third event: its retries go from one release to the other.
type ledger struct {
	t         *testing.T
	published []string

	mu        sync.Mutex
	attempts  map[string]int
	delivered map[string]int
}

func (l *ledger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var ev struct {
		ID string
		N  int
	}
	json.Unmarshal(body, &ev)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts[ev.ID]++
	if ev.N%3 == 0 && l.attempts[ev.ID] == 1 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	l.delivered[ev.ID]++
}

// publish has the process publish n events, and notes them. Where the log doesn't
// answer they are sent again, under the same ids.
func (l *ledger) publish(p *process, n int) {
	l.t.Helper()
	for range n {
		id := fmt.Sprintf("upgrade-%d", len(l.published))
		body := fmt.Sprintf(`{"id":%q,"type":"rfq.created","data":{"n":%d}}`, id, len(l.published))
		eventually(l.t, time.Minute, func() error {
			return p.call(l.t.Context(), "POST", "/v1/events", "application/json", []byte(body), 202, nil)
		})
		l.published = append(l.published, id)
	}
}

// settle waits until all that was published is delivered.
func (l *ledger) settle() {
	l.t.Helper()
	eventually(l.t, 2*time.Minute, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, id := range l.published {
			if l.delivered[id] == 0 {
				return fmt.Errorf("event %d of %d, %s, wasn't delivered in %d attempts", i, len(l.published), id, l.attempts[id])
			}
		}
		return nil
	})
}

// newLedger makes the receiver and its endpoint.
func newLedger(t *testing.T, p *process) *ledger {
	l := &ledger{t: t, attempts: make(map[string]int), delivered: make(map[string]int)}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	for range 4 { // in some lanes
		body := fmt.Sprintf(`{"url":%q,"events":["*"]}`, server.URL)
		if err := p.call(t.Context(), "POST", "/v1/webhooks", "application/json", []byte(body), 201, nil); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// well fails the test if a process made anything of what it met that it shouldn't
// have.
func (p *process) well() {
	p.t.Helper()
	for _, word := range []string{"unknown version", "unknown kind", "can't be read", "passed over", "is dead", "damaged", "panic"} {
		if text := p.messages.String(); strings.Contains(text, word) {
			at := strings.Index(text, word)
			p.t.Errorf("it says %q: %s", word, text[max(0, at-300):min(len(text), at+300)])
		}
	}
}

// TestUpgrade: processes of an earlier release and of this one share a log, in a
// rolling upgrade and on the way back, and nothing is lost on the way.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	bin := earlierRelease(t)
	for name, order := range map[string][2]string{"there and back": {bin, ""}, "back and there": {"", bin}} {
		t.Run("kafka/"+name, func(t *testing.T) {
			t.Parallel()
			args := kafkaArgs(t)
			first := startBinary(t, order[0], args)
			l := newLedger(t, first)
			stream := onOrg(first, first.key).listen(t, "", "*")
			l.publish(first, 10)

			second := startBinary(t, order[1], args)
			second.key = first.key
			other := onOrg(second, first.key).listen(t, "", "*")
			for range 5 {
				l.publish(first, 2)
				l.publish(second, 2)
			}
			twice := l.sameKey(first, second)
			l.published = append(l.published, twice)
			l.publish(second, 5)
			var cursor string
			for _, id := range l.published {
				cursor = stream.next(t, id)["cursor"].(string)
			}
			for _, id := range l.published[10:] {
				other.next(t, id)
			}
			first.stop() // the second has all lanes now, and what waits in the tiers
			l.publish(second, 10)
			resumed := onOrg(second, first.key).listen(t, cursor, "*")
			for _, id := range l.published[len(l.published)-10:] {
				cursor = resumed.next(t, id)["cursor"].(string)
			}
			first.start()
			l.publish(second, 5)
			second.stop() // and all goes back
			l.publish(first, 10)
			resumed = onOrg(first, first.key).listen(t, cursor, "*")
			for _, id := range l.published[len(l.published)-15:] {
				resumed.next(t, id)
			}
			if id := l.sameKey(first, first); id != twice {
				t.Errorf("a key that both releases know gives %s, not %s", id, twice)
			}
			l.settle()
			first.well()
			second.well()
		})
	}
	// One process after the other on the same data directory.
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		args := []string{"--data", filepath.Join(t.TempDir(), "data")}
		p := startBinary(t, bin, args)
		l := newLedger(t, p)
		cursor := ""
		for i, next := range []string{"", bin, "", bin} {
			l.publish(p, 10)
			twice := l.sameKey(p, p)
			if i == 0 {
				l.published = append(l.published, twice)
			}
			if i%2 == 0 {
				p.stop() // with retries under way
			} else {
				p.kill()
			}
			p.well()
			p.bin = next
			p.start()
			stream := onOrg(p, p.key).listen(t, cursor, "*")
			if cursor != "" {
				for _, id := range l.published[len(l.published)-10:] {
					cursor = stream.next(t, id)["cursor"].(string)
				}
				continue
			}
			l.publish(p, 1)
			cursor = stream.next(t, l.published[len(l.published)-1])["cursor"].(string)
		}
		l.settle()
		p.well()
	})
}

// sameKey publishes the same on both processes under one key, and gives its id.
func (l *ledger) sameKey(a, b *process) string {
	l.t.Helper()
	var ids [2]string
	for i, p := range []*process{a, b} {
		var answer published
		eventually(l.t, time.Minute, func() (err error) { // where the log doesn't answer it may be sent again
			if answer, err = p.publish(l.t.Context(), "the one that both know", `{"events":[{"type":"rfq.created","data":{"n":1}}]}`); err == nil && answer.status == 503 {
				err = fmt.Errorf("answered %+v", answer)
			}
			return err
		})
		if answer.status != 202 || len(answer.ids) != 1 {
			l.t.Fatalf("answered %+v", answer)
		}
		ids[i] = answer.ids[0]
	}
	if ids[0] != ids[1] {
		l.t.Errorf("one key gives %s and %s", ids[0], ids[1])
	}
	return ids[0]
}

func onOrg(p *process, key string) member {
	return member{&client{base: "http://" + p.address, token: key}, control.DefaultOrg}
}
