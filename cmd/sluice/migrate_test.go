package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog/eventlogtest"
)

const migratedEvents = 5_000

// A process is killed while it owes something of every kind; its log goes to
// brokers, and a process there makes good on all of it, and on nothing twice.
func TestMigrate(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		to := migrationTo(t)
		p := startProcess(t, []string{"--data", to.data})
		m := member{&client{base: "http://" + p.address, token: p.key}, "org_default"}

		done := m.hook(t, nil, "done.*", "first.*")
		once, twice := m.hook(t, []int{500}, "once.*", "first.*"), m.hook(t, []int{500, 500}, "twice.*", "first.*")
		paused, gone := m.hook(t, nil, "paused.*", "first.*"), m.hook(t, []int{http.StatusGone}, "gone.*", "first.*")
		deleted, counts := m.hook(t, nil, "paused.*", "first.*"), newCounter(t)
		if _, err := m.call(t.Context(), "POST", "/v1/webhooks", map[string]any{"url": counts.url, "events": []string{"bulk.*"}}, nil); err != nil {
			t.Fatal(err)
		}
		m.patch(t, paused, map[string]any{"status": "paused"})

		l := m.listen(t, "", "done.*")
		delivered := m.publish(t, "done.one", nil)
		cursor, _ := l.next(t, delivered)["cursor"].(string)
		done.next(t, delivered)
		refused := m.publish(t, "gone.one", nil)
		gone.next(t, refused)
		m.status(t, gone.id, "disabled")
		failedTwice := m.publish(t, "twice.one", nil)
		before := twice.next(t, failedTwice)
		twice.next(t, failedTwice) // the next is 30 s later
		var held []string
		for range 3 {
			held = append(held, m.publish(t, "paused.one", nil))
			deleted.next(t, held[len(held)-1])
		}
		heldGone := m.publish(t, "gone.two", nil)
		keyed := m.keyed(t, "k1", `{"type":"done.keyed","data":{}}`, false)
		done.next(t, keyed)
		failedOnce := m.publish(t, "once.one", nil)
		once.next(t, failedOnce)
		bulk := make(map[string]bool)
		for batch := range migratedEvents / 500 {
			var lines strings.Builder
			for i := range 500 {
				id := fmt.Sprintf("bulk_%d_%d", batch, i)
				bulk[id] = true
				fmt.Fprintf(&lines, `{"type":"bulk.one","id":%q,"data":{}}`+"\n", id)
			}
			if err := p.call(t.Context(), "POST", "/v1/events", "application/x-ndjson", []byte(lines.String()), 202, nil); err != nil {
				t.Fatal(err)
			}
		}
		to.refused(t, "in use by process") // before it is stopped
		used := p.published(t, "org_default", to.data)
		p.kill()
		stopped := time.Now()
		t.Logf("killed after %d of %d deliveries", counts.unique(), migratedEvents)

		dry := to.migrate(t, "--dry-run")
		said := to.migrate(t)
		t.Log(said)
		want := regexp.MustCompile(`(?m)^\s*[\d,]+ .*$`)
		if have := want.FindAllString(said, -1); len(have) < 10 || strings.Join(have, "\n") != strings.Join(want.FindAllString(dry, -1), "\n") {
			t.Errorf("a dry run had said %s", dry)
		}
		if again := to.migrate(t, "--dry-run"); again != dry {
			t.Errorf("the directory was changed: %s", again)
		}
		to.refused(t, "have been used", to.prefix+"events.sandbox", "another --prefix")

		p.args = append(p.args, to.args...)
		p.start()
		if got := p.published(t, "org_default", to.data); got < used || used == 0 {
			t.Errorf("%d events were published, and before %d", got, used)
		}
		if r := once.next(t, failedOnce); r.attempt != "2" {
			t.Errorf("what failed once came as %+v", r)
		}
		if r := twice.next(t, failedTwice); r.attempt != "3" || r.delivery != before.delivery {
			t.Errorf("what failed twice came as %+v, and before as %+v", r, before)
		}
		eventually(t, time.Minute, func() error { return counts.missing(bulk) })
		if n := counts.doubles(); n > maxInFlight {
			t.Errorf("%d deliveries came twice", n)
		}
		m.patch(t, paused, map[string]any{"status": "active"})
		if got := map[string]bool{paused.any(t): true, paused.any(t): true, paused.any(t): true}; !got[held[0]] || !got[held[1]] || !got[held[2]] {
			t.Errorf("after the pause came %v, not %v", got, held)
		}
		if _, err := m.call(t.Context(), "POST", "/v1/webhooks/"+gone.id+"/enable", nil, nil); err != nil {
			t.Fatal(err)
		}
		if got := map[string]bool{gone.any(t): true, gone.any(t): true}; !got[refused] || !got[heldGone] {
			t.Errorf("to what was disabled came %v", got)
		}

		if _, err := m.call(t.Context(), "GET", "/v1/events?cursor="+cursor, nil, nil); err == nil || !strings.Contains(err.Error(), "cursor_expired") {
			t.Errorf("a cursor from before: %v", err)
		}
		var page struct{ Data []struct{ ID string } }
		for span, n := range map[string]int{"from=": 0, "limit=1&to=": 1} {
			if _, err := m.call(t.Context(), "GET", "/v1/events?"+span+stopped.UTC().Format(time.RFC3339Nano), nil, &page); err != nil || len(page.Data) != n || n > 0 && page.Data[0].ID != delivered {
				t.Errorf("%s the kill: %+v, %v", span, page.Data, err)
			}
		}
		if id := m.keyed(t, "k1", `{"type":"done.keyed","data":{}}`, true); id != keyed {
			t.Errorf("a key from before is answered with %s, not %s", id, keyed)
		}
		if err := p.call(t.Context(), "POST", "/v1/events", "", []byte(`{"type":"bulk.one","id":"bulk_0_0","data":{}}`), 202, nil); err != nil {
			t.Errorf("an id from before: %v", err)
		}
		if err := p.call(t.Context(), "POST", "/v1/events", "", []byte(`{"type":"bulk.one","id":"bulk_0_0","data":{"other":1}}`), 409, nil); err != nil {
			t.Errorf("an id from before, of another event: %v", err)
		}

		first := m.publish(t, "first.one", nil)
		for _, h := range []*hook{done, once, twice, paused, gone, deleted} {
			h.next(t, first)
		}
		if _, err := m.call(t.Context(), "DELETE", "/v1/webhooks/"+deleted.id, nil, nil); err != nil {
			t.Fatal(err)
		}
		m.patch(t, done, map[string]any{"events": []string{"changed.*"}})
		second, changed := m.publish(t, "first.two", nil), m.publish(t, "changed.one", nil)
		for _, h := range []*hook{once, twice, paused, gone} {
			h.next(t, second)
		}
		done.next(t, changed)
		for name, h := range map[string]*hook{"done": done, "once": once, "twice": twice, "paused": paused, "gone": gone, "deleted": deleted} {
			select {
			case r := <-h.requests:
				t.Errorf("to %s came %+v, too", name, r)
			default:
			}
		}
		if n := counts.doubles(); n > maxInFlight {
			t.Errorf("%d deliveries came twice in the end", n)
		}
	})
}

// A migration is killed; nobody can serve what it left, and it is begun anew.
func TestMigrateKilled(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		to := migrationTo(t)
		p := startProcess(t, []string{"--data", to.data})
		m := member{&client{base: "http://" + p.address, token: p.key}, "org_default"}
		h := m.hook(t, []int{500}, "*")
		id := m.publish(t, "rfq.created", nil)
		h.next(t, id)
		p.kill()

		client, err := kgo.NewClient(kgo.SeedBrokers(to.brokers...), kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		path, err := binary()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, to.command()...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, func() error {
			meta, err := kadm.NewClient(client).ListTopics(t.Context(), to.prefix+"filling")
			if err == nil && !meta.Has(to.prefix+"filling") {
				err = errors.New("it hasn't begun")
			}
			return err
		})
		cmd.Process.Kill()
		if err := cmd.Wait(); err == nil {
			t.Fatal("it had ended before it was killed")
		}
		secrets := filepath.Join(to.data, secretsKeyFile)
		refusedStart(t, nodeConfig{Brokers: to.brokers, Prefix: to.prefix, SecretsKeyFile: secrets}, to.prefix+"filling", "--again")
		to.refused(t, to.prefix+"filling", "--again")
		interrupted, cancel := context.WithCancel(t.Context())
		cancel()
		var out bytes.Buffer
		if code := run(interrupted, append(to.command(), "--again"), std{Out: &out, Err: &out}); code != 1 {
			t.Errorf("interrupted: exit code %d, %s", code, &out)
		}
		to.migrate(t, "--again")
		p.args = append(p.args, to.args...)
		p.start()
		h.next(t, id)
	})
}

// migrateTo is where a data directory is migrated to.
type migrateTo struct {
	data, prefix string
	brokers      []string
	args         []string // of a process that serves there
}

func migrationTo(t *testing.T) *migrateTo {
	to := &migrateTo{data: filepath.Join(t.TempDir(), "data"), prefix: fmt.Sprintf("migrate%d.", time.Now().UnixNano()), brokers: eventlogtest.Brokers(t)}
	to.args = []string{"--brokers", strings.Join(to.brokers, ","), "--prefix", to.prefix, "--secrets-key-file", filepath.Join(to.data, secretsKeyFile)}
	return to
}

func (to *migrateTo) command() []string {
	return []string{"migrate", "--data", to.data, "--brokers", strings.Join(to.brokers, ","), "--prefix", to.prefix}
}

// migrate gives what the command prints.
func (to *migrateTo) migrate(t *testing.T, more ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append(to.command(), more...), std{Out: &out, Err: &errs}); code != 0 {
		t.Fatalf("migrate %v: %d, %s%s", more, code, &out, &errs)
	}
	return out.String()
}

// refused wants the command to fail, and to say all this.
func (to *migrateTo) refused(t *testing.T, says ...string) {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), to.command(), std{Out: &out, Err: &out}); code != 1 {
		t.Errorf("exit code %d: %s", code, &out)
	}
	for _, s := range says {
		if !strings.Contains(out.String(), s) {
			t.Errorf("%q doesn't say %q", out.String(), s)
		}
	}
}

func (m member) patch(t *testing.T, h *hook, body map[string]any) {
	t.Helper()
	if _, err := m.call(t.Context(), "PATCH", "/v1/webhooks/"+h.id, body, nil); err != nil {
		t.Fatal(err)
	}
}

// keyed publishes an event with an Idempotency-Key, and gives its id.
func (m member) keyed(t *testing.T, key, body string, replayed bool) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", m.base+"/v1/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var answer bytes.Buffer
	answer.ReadFrom(r.Body)
	found := regexp.MustCompile(`"id":"(.*?)"`).FindStringSubmatch(answer.String())
	if r.StatusCode != 202 || len(found) != 2 || (r.Header.Get("Idempotent-Replayed") == "true") != replayed {
		t.Fatalf("%s %v %s", r.Status, r.Header, &answer)
	}
	return found[1]
}
