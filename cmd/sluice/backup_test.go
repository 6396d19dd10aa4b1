package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A backup is taken while events are published; the process stops and its data are
// lost. What goes on from the backup has every event acknowledged before it, owes
// what was owed, and knows cursors from before to be another log's.
func TestBackup(t *testing.T) {
	n := startStory(t, nodeConfig{})
	a := n.member(t)
	h, l := a.hook(t, nil, "rfq.*"), a.listen(t, "", "*")
	owing := a.hook(t, []int{http.StatusServiceUnavailable}, "owed.*")
	first := a.publish(t, "rfq.created", nil)
	cursor, _ := l.next(t, first)["cursor"].(string)
	h.next(t, first)

	var (
		stop  = make(chan struct{})
		wg    sync.WaitGroup
		mu    sync.Mutex
		acked = []string{first}
	)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var answer struct{ ID string }
			if _, err := a.call(t.Context(), "POST", "/v1/events", map[string]any{"type": "rfq.created", "data": map[string]any{}}, &answer); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			acked = append(acked, answer.ID)
			mu.Unlock()
		}
	})
	<-time.After(300 * time.Millisecond)
	owed := a.publish(t, "owed.payment", nil)
	owing.next(t, owed) // refused: the next attempt is 5 s later, and the backup comes before
	mu.Lock()
	before := len(acked)
	mu.Unlock()
	running := filepath.Join(t.TempDir(), "copies", "running")
	backUp := func(dir string) (code int, said string) {
		var out bytes.Buffer
		code = run(t.Context(), []string{"backup", dir, "--ops", strings.TrimPrefix(n.OpsURL(), "http://"), "--data", n.cfg.Data}, std{Out: &out, Err: &out})
		return code, out.String()
	}
	if code, said := backUp(running); code != 0 || strings.TrimSpace(said) != running {
		t.Fatalf("backup: %d, %s", code, said)
	}
	close(stop)
	wg.Wait()
	if code, said := backUp(running); code != 1 || !strings.Contains(said, "there already") {
		t.Errorf("a second backup to the same place: %d, %s", code, said)
	}
	stopStory(t, n)
	stopped := filepath.Join(t.TempDir(), "stopped")
	if code, said := backUp(stopped); code != 0 {
		t.Fatalf("backup without a process: %d, %s", code, said)
	}
	if err := os.RemoveAll(n.cfg.Data); err != nil {
		t.Fatal(err)
	}

	for _, dir := range []string{running, stopped} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			restored := startStory(t, nodeConfig{Data: dir})
			b := member{&client{base: restored.URL(), token: a.token}, a.org}
			_, err := b.call(t.Context(), "GET", "/v1/events?cursor="+cursor, nil, nil)
			if err == nil || !strings.Contains(err.Error(), "cursor_expired") {
				t.Errorf("a cursor from before: %v", err)
			}
			for _, id := range append([]string{owed}, acked[:before]...) {
				if _, err := b.call(t.Context(), "GET", "/v1/events/"+id, nil, nil); err != nil {
					t.Errorf("acknowledged before the backup: %v", err)
				}
			}
			owing.next(t, owed)
			t.Logf("%d events acknowledged before, all there", before)
			stopStory(t, restored)
		})
	}
}

func stopStory(t *testing.T, n *storyNode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}
