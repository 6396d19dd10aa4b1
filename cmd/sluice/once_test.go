package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// published is the answer to a request with an Idempotency-Key.
type published struct {
	status     int
	ids        []string
	replayed   bool
	retryAfter string
	text       string
}

// publish sends a batch with a key, once. An error says that no answer came.
func (p *process) publish(ctx context.Context, key, body string) (published, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+p.address+"/v1/events", strings.NewReader(body))
	if err != nil {
		return published{}, err
	}
	req.Header.Set("Authorization", "Bearer "+p.key)
	req.Header.Set("Idempotency-Key", key)
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return published{}, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return published{}, err
	}
	var answer struct{ IDs []string }
	if r.StatusCode == 202 {
		err = json.Unmarshal(text, &answer)
	}
	return published{r.StatusCode, answer.IDs, r.Header.Get("Idempotent-Replayed") == "true", r.Header.Get("Retry-After"), string(text)}, err
}

// insist publishes until it is answered 202, by whichever process pick gives. One
// that doesn't answer soon is asked again, or another is.
func insist(ctx context.Context, pick func() *process, key, body string) (published, error) {
	for {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		answer, err := pick().publish(once, key, body)
		cancel()
		if err == nil && answer.status == 202 {
			return answer, nil
		}
		if err == nil && answer.status != 503 && answer.status != 401 { // a new process may not know its key yet
			return answer, fmt.Errorf("%d %s", answer.status, answer.text)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return answer, fmt.Errorf("never taken: %w; at last %d %s, %v", ctx.Err(), answer.status, answer.text, err)
		}
	}
}

// loggedOnce are the ids of all events in the log, by the data that each has.
func loggedOnce(ctx context.Context, p *process) (map[string][]string, error) {
	events := make(map[string][]string)
	for cursor := ""; ; {
		var page struct {
			Data       []struct{ ID, Op string }
			NextCursor string
			HasMore    bool
		}
		if err := p.call(ctx, "GET", "/v1/events?types=once.*&limit=500&cursor="+cursor, "", nil, 200, &page); err != nil {
			return nil, err
		}
		for _, ev := range page.Data {
			events[ev.Op] = append(events[ev.Op], ev.ID)
		}
		if cursor = page.NextCursor; !page.HasMore {
			return events, nil
		}
	}
}

// batchOf is a body with n events, every third of which has an id of its own.
func batchOf(op string, n int) string {
	var b bytes.Buffer
	for i := range n {
		id := ""
		if i%3 == 2 {
			id = fmt.Sprintf(`"id":"own_%s_%d",`, op, i)
		}
		fmt.Fprintf(&b, `,{"type":"once.tick",%s"data":{"op":"%s.%d"}}`, id, op, i)
	}
	return `{"events":[` + b.String()[1:] + `]}`
}

// TestKillPublishers ends processes with SIGKILL wherever they are, and stops those
// that have others beside them until their claims were taken over, while publishers
// send each batch, with its key, until it is answered, and then once more: every
// event is in the log once, under the id that both answers have.
func TestKillPublishers(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, processes []*process, faults int) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		var over atomic.Bool
		var mu sync.Mutex
		want := make(map[string]string) // id by data
		var publishers sync.WaitGroup
		for n := range 6 {
			publishers.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(n)))
				pick := func() *process { return processes[rnd.IntN(len(processes))] }
				for i := 0; !over.Load() && !t.Failed(); i++ {
					op, size := fmt.Sprintf("%d_%d", n, i), 1+rnd.IntN(4)
					first, err := insist(ctx, pick, op, batchOf(op, size))
					if err != nil {
						t.Errorf("%s: %v", op, err)
						return
					}
					again, err := insist(ctx, pick, op, batchOf(op, size))
					if err != nil || !slices.Equal(again.ids, first.ids) || !again.replayed || len(first.ids) != size {
						t.Errorf("%s: %+v, then %+v, %v", op, first, again, err)
					}
					mu.Lock()
					for i, id := range first.ids {
						want[fmt.Sprintf("%s.%d", op, i)] = id
					}
					mu.Unlock()
				}
			})
		}
		rnd := rand.New(rand.NewPCG(seed, 100))
		for i := range faults {
			<-time.After(time.Duration(200+rnd.IntN(800)) * time.Millisecond)
			p := processes[rnd.IntN(len(processes))]
			if i%2 == 1 && len(processes) > 1 {
				p.cmd.Process.Signal(syscall.SIGSTOP)
				<-time.After(10 * time.Second)
				p.cmd.Process.Signal(syscall.SIGCONT)
				continue
			}
			p.kill()
			p.start()
		}
		over.Store(true)
		publishers.Wait()
		got, err := loggedOnce(ctx, processes[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d events were published through %d faults", len(want), faults)
		for data, ids := range got {
			if len(ids) != 1 || ids[0] != want[data] {
				t.Errorf("%s was answered %s, and the log has %v", data, want[data], ids)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d events were answered for, %d are in the log", len(want), len(got))
		}
	}
	t.Run("embedded", func(t *testing.T) {
		run(t, []*process{startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data")})}, 4)
	})
	t.Run("kafka", func(t *testing.T) {
		args := append(kafkaArgs(t), "--roles", string(roleAPI))
		run(t, []*process{startProcess(t, args), startProcess(t, args)}, 4)
	})
}

const lossyPrefix = "once."

// lossy is a broker in this process, whose answers to what is produced can be lost.
type lossy struct {
	*kfake.Cluster
	client *kgo.Client
}

func startLossy(t *testing.T) *lossy {
	t.Helper()
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.Produce), 12) // the last to name topics
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.MaxVersions(versions))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &lossy{cluster, client}
}

// pair starts two processes on the broker, which know it and one another's keys.
func (b *lossy) pair(t *testing.T) (first, second *process) {
	t.Helper()
	secrets := filepath.Join(t.TempDir(), "secrets.key")
	if err := os.WriteFile(secrets, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--brokers", strings.Join(b.ListenAddrs(), ","), "--prefix", lossyPrefix, "--secrets-key-file", secrets, "--roles", string(roleAPI)}
	start := func() *process {
		p := startProcess(t, append(args, "--data", t.TempDir()))
		// The first to a topic takes longer.
		if err := p.call(t.Context(), "POST", "/v1/events", "", []byte(`{"type":"warm.up","data":{}}`), 202, nil); err != nil {
			t.Fatal(err)
		}
		return p
	}
	return start(), start()
}

func (p *process) itself() *process { return p }

// moment is when something happens to what is produced to a topic.
type moment struct {
	name    string
	topic   string
	nth     int  // of what is produced to it
	written bool // the broker has it, and doesn't say so; else it is lost on its way
	answer  int  // to the first request: 0: none, for its process is killed
}

// await has the moment come for the next that is produced, and tells when it has.
func (b *lossy) await(m moment) (came <-chan struct{}) {
	ch := make(chan struct{})
	seen := 0
	b.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		produce := req.(*kmsg.ProduceRequest)
		if produce.Topics[0].Topic != lossyPrefix+m.topic {
			return nil, nil, false
		}
		if seen++; seen < m.nth {
			return nil, nil, false
		}
		go func() {
			defer close(ch)
			if m.written {
				b.client.Broker(0).Request(context.Background(), produce)
			}
		}()
		return nil, nil, true // and is never answered
	})
	return ch
}

// TestPublishOnceAtEachMoment: whatever of a request is in the log when its process
// dies, or when its broker doesn't answer, the next with its key is answered for
// events that are in the log once; on another process, and on the same one after
// it was started again.
func TestPublishOnceAtEachMoment(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup // they wait more than they work
	few := make(chan struct{}, 3)
	defer all.Wait()
	for _, m := range []moment{
		{"killed before the claim", "idem", 1, false, 0},
		{"killed with the claim in the log", "idem", 1, true, 0},
		{"killed between claim and events", "events.sandbox", 1, false, 0},
		{"killed with the events in the log", "events.sandbox", 1, true, 0},
		{"killed behind the answer", "idem", 2, false, 202},
		{"no answer to the claim", "idem", 1, true, 503},
		{"no answer to the events", "events.sandbox", 1, true, 503},
	} {
		all.Go(func() {
			few <- struct{}{}
			t.Run(m.name, m.run)
			<-few
		})
	}
}

func (m moment) run(t *testing.T) {
	b := startLossy(t)
	first, second := b.pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	came := b.await(m)
	answered := make(chan published, 1)
	go func() {
		answer, _ := first.publish(ctx, "key", batchOf("x", 4))
		answered <- answer
	}()
	select {
	case <-came:
	case <-ctx.Done():
		t.Fatal("the moment never came")
	}
	var answer published
	if m.answer > 0 {
		answer = <-answered
		if answer.status != m.answer {
			t.Errorf("answered %+v", answer)
		}
		if seconds, err := strconv.Atoi(answer.retryAfter); m.answer == 503 && (err != nil || seconds < 1) {
			t.Errorf("when to try again: %q", answer.retryAfter)
		}
	}
	if m.answer != 503 {
		first.kill()
	}
	there, err := insist(ctx, second.itself, "key", batchOf("x", 4))
	if err != nil || len(there.ids) != 4 || there.ids[2] != "own_x_2" || m.answer == 202 && !slices.Equal(there.ids, answer.ids) {
		t.Fatalf("on the other process: %+v, %v", there, err)
	}
	if m.answer != 503 {
		first.start()
	}
	here, err := insist(ctx, first.itself, "key", batchOf("x", 4))
	if err != nil || !slices.Equal(here.ids, there.ids) || !here.replayed {
		t.Errorf("on the same process: %+v, and elsewhere %+v, %v", here, there, err)
	}
	if other, err := first.publish(ctx, "key", batchOf("y", 4)); err != nil || other.status != 409 {
		t.Errorf("another body: %+v, %v", other, err)
	}
	got, err := loggedOnce(ctx, second)
	if err != nil || len(got) != 4 {
		t.Errorf("the log has %v, %v", got, err)
	}
	for i, id := range there.ids {
		if data := fmt.Sprintf("x.%d", i); !slices.Equal(got[data], []string{id}) {
			t.Errorf("%s was answered %s, and the log has %v", data, id, got[data])
		}
	}
}

// TestWaitsForAnotherProcess: a request that is under way is waited for by the same
// one on another process.
func TestWaitsForAnotherProcess(t *testing.T) {
	t.Parallel()
	b := startLossy(t)
	first, second := b.pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	came, release := make(chan struct{}), make(chan struct{})
	silent := sync.OnceFunc(func() { close(came) })
	b.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if req.(*kmsg.ProduceRequest).Topics[0].Topic == lossyPrefix+"events.sandbox" {
			b.SleepControl(func() { silent(); <-release })
		}
		return nil, nil, false
	})
	answers := make(chan published, 2)
	publish := func(p *process) {
		answer, err := p.publish(ctx, "key", batchOf("x", 2))
		if err != nil {
			t.Error(err)
		}
		answers <- answer
	}
	go publish(first)
	<-came
	go publish(second)
	select {
	case early := <-answers:
		t.Errorf("answered while the broker was silent: %+v", early)
	case <-time.After(time.Second):
	}
	close(release)
	one, other := <-answers, <-answers
	if one.status != 202 || other.status != 202 || !slices.Equal(one.ids, other.ids) || one.replayed == other.replayed {
		t.Errorf("answered %+v and %+v", one, other)
	}
	if got, err := loggedOnce(ctx, second); err != nil || len(got) != 2 || len(got["x.0"]) != 1 || len(got["x.1"]) != 1 {
		t.Errorf("the log has %v, %v", got, err)
	}
}
