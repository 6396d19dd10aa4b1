package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const (
	crashEvents  = 20_000
	crashBatch   = 200
	crashKills   = 3
	maxInFlight  = 32 // requests at once to one endpoint
	crashWaiting = 3 * time.Minute
)

// TestKill ends the process with SIGKILL three times while it delivers 20,000
// events. Whatever was answered 202 must be in the log once, though what wasn't
// answered is sent again, and reach the receiver; what comes twice there may only
// be what was in flight when the process died; and clients that resume, on a
// WebSocket by cursor and on streams of events by id, a slow one among them, must see
// every event once and in order.
func TestKill(t *testing.T) {
	onBothLogs(t, func(t *testing.T, args []string) {
		p := startProcess(t, args)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()

		receiver := newCounter(t)
		body := fmt.Sprintf(`{"url":%q,"events":["crash.*"]}`, receiver.url)
		if err := p.call(ctx, "POST", "/v1/webhooks", "application/json", []byte(body), 201, nil); err != nil {
			t.Fatal(err)
		}
		stream := follow(ctx, t, p)
		whole, slow := followEvents(ctx, t, p, 0), followEvents(ctx, t, p, 50*time.Millisecond)

		acknowledged, published := make(map[string]bool), make(chan map[string]bool, 1)
		go func() { published <- publishAll(ctx, p) }()
		inFlight := 0
		for i := range crashKills {
			// Somewhere in each third of the work, but never at the same place twice.
			goal := crashEvents*i/crashKills + rand.IntN(crashEvents/crashKills-500) + 200
			receiver.await(t, goal)
			p.kill()
			inFlight += maxInFlight
			t.Logf("killed after %d deliveries", receiver.unique())
			p.start()
		}
		select {
		case acknowledged = <-published:
		case <-ctx.Done():
			t.Fatal("publishing never ended")
		}

		eventually(t, crashWaiting, func() error {
			return receiver.missing(acknowledged)
		})
		doubles := receiver.doubles()
		t.Logf("%d events acknowledged, %d delivered, %d came twice", len(acknowledged), receiver.unique(), doubles)
		if doubles > inFlight {
			t.Errorf("%d deliveries came twice; at most %d can have been in flight", doubles, inFlight)
		}
		stream.verify(t, acknowledged)
		whole.verify(t, acknowledged)
		slow.verify(t, acknowledged)
		logged := &follower{seen: make(map[string]bool)}
		logged.list(ctx, p, "")
		if len(logged.seen) != len(acknowledged) || logged.again > 0 {
			t.Errorf("%d events were acknowledged, %d are in the log, %d of them twice", len(acknowledged), len(logged.seen), logged.again)
		}
	})
}

// publishAll publishes crashEvents. A batch whose answer was lost is sent again,
// with the same ids, until it is answered.
func publishAll(ctx context.Context, p *process) map[string]bool {
	acknowledged := make(map[string]bool)
	for batch := 0; len(acknowledged) < crashEvents && ctx.Err() == nil; batch++ {
		var lines strings.Builder
		var ids []string
		for i := range crashBatch {
			id := fmt.Sprintf("crash_%d_%d", batch, i)
			ids = append(ids, id)
			fmt.Fprintf(&lines, `{"type":"crash.tick","id":%q,"data":{"n":%d,"what":%q}}`+"\n", id, i, id)
		}
		for ctx.Err() == nil {
			if p.call(ctx, "POST", "/v1/events", "application/x-ndjson", []byte(lines.String()), 202, nil) == nil {
				break
			}
			<-time.After(50 * time.Millisecond)
		}
		for _, id := range ids {
			acknowledged[id] = true
		}
	}
	return acknowledged
}

// counter is a receiver that remembers how often each event came.
type counter struct {
	url string
	mu  sync.Mutex
	got map[string]int
	all int
}

func newCounter(t *testing.T) *counter {
	c := &counter{got: make(map[string]int)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.url = "http://" + ln.Addr().String() + "/hook"
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ev struct{ ID string }
		if json.NewDecoder(r.Body).Decode(&ev) == nil {
			c.mu.Lock()
			c.got[ev.ID]++
			c.all++
			c.mu.Unlock()
		}
	})}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return c
}

func (c *counter) unique() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func (c *counter) doubles() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all - len(c.got)
}

func (c *counter) await(t *testing.T, n int) {
	t.Helper()
	eventually(t, crashWaiting, func() error {
		if have := c.unique(); have < n {
			return fmt.Errorf("%d deliveries of %d", have, n)
		}
		return nil
	})
}

func (c *counter) missing(want map[string]bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, one := 0, ""
	for id := range want {
		if c.got[id] == 0 {
			n, one = n+1, id
		}
	}
	if n > 0 {
		return fmt.Errorf("%d events never came, %s among them", n, one)
	}
	return nil
}

// follower is a client that follows all events and resumes by its last cursor,
// reading what a resume left out from the events list.
type follower struct {
	mu    sync.Mutex
	ids   []string
	seen  map[string]bool
	again int // ids that came twice
}

func follow(ctx context.Context, t *testing.T, p *process) *follower {
	t.Helper()
	return following(ctx, t, func(ctx context.Context, s *follower, cursor string, ready func()) string {
		return s.connection(ctx, p, cursor, ready)
	})
}

// following follows by connections, one after another until the test ends: each goes on
// from where it is told and gives where it ended. It returns once one says that it's ready.
func following(ctx context.Context, t *testing.T, connection func(ctx context.Context, s *follower, from string, ready func()) string) *follower {
	t.Helper()
	s := &follower{seen: make(map[string]bool)}
	ready := make(chan struct{})
	var once sync.Once
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for from := ""; ctx.Err() == nil; {
			from = connection(ctx, s, from, func() { once.Do(func() { close(ready) }) })
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(patience):
		t.Fatal("the stream never began")
	}
	return s
}

type streamMessage struct {
	Type, ID, Cursor, Code string
	Count, Missed          int
}

// connection follows one connection to its end and returns the newest cursor.
func (s *follower) connection(ctx context.Context, p *process, cursor string, ready func()) string {
	conn, _, err := websocket.Dial(ctx, "ws://"+p.address+"/v1/ws", nil)
	if err != nil {
		return cursor
	}
	defer conn.CloseNow()
	say := func(message map[string]any) {
		text, _ := json.Marshal(message)
		conn.Write(ctx, websocket.MessageText, text)
	}
	subscribe := func(cursor string) {
		message := map[string]any{"type": "subscribe", "channels": []string{"crash.*"}}
		if cursor != "" {
			message["cursor"] = cursor
		}
		say(message)
	}
	say(map[string]any{"type": "auth", "token": p.key})
	subscribe(cursor)
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return cursor
		}
		var m streamMessage
		if json.Unmarshal(text, &m) != nil {
			continue
		}
		switch m.Type {
		case "subscribe.ok":
			ready()
			if cursor == "" {
				cursor = m.Cursor
			}
		case "replay.truncated", "dropped":
			// More was missed than a stream replays: read it from the list, then
			// begin a new stream where the list ended.
			return s.list(ctx, p, m.Cursor)
		case "crash.tick":
			s.add(m.ID)
			cursor = m.Cursor
		}
	}
}

// list reads events from the cursor to the end of the log.
func (s *follower) list(ctx context.Context, p *process, cursor string) string {
	for ctx.Err() == nil {
		var page struct {
			Data       []streamMessage
			NextCursor string
			HasMore    bool
		}
		err := p.call(ctx, "GET", "/v1/events?types=crash.*&limit=500&cursor="+cursor, "", nil, 200, &page)
		if err != nil {
			<-time.After(50 * time.Millisecond)
			continue
		}
		for _, m := range page.Data {
			s.add(m.ID)
		}
		if cursor = page.NextCursor; !page.HasMore {
			break
		}
	}
	return cursor
}

func (s *follower) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[id] {
		s.again++
	}
	s.seen[id] = true
	s.ids = append(s.ids, id)
}

// verify holds what the client saw against what was acknowledged.
func (s *follower) verify(t *testing.T, acknowledged map[string]bool) {
	t.Helper()
	eventually(t, patience, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for id := range acknowledged {
			if !s.seen[id] {
				return fmt.Errorf("%s was never streamed; %d events were", id, len(s.ids))
			}
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again > 0 {
		t.Errorf("%d events were streamed twice", s.again)
	}
	// The publisher appends one batch after the other, so their numbers rise, and so
	// do those within one, also of one that a kill cut in two.
	last := [2]int{-1, -1}
	for _, id := range s.ids {
		var at [2]int
		fmt.Sscanf(id, "crash_%d_%d", &at[0], &at[1])
		if at[0] < last[0] || at[0] == last[0] && at[1] <= last[1] {
			t.Fatalf("%s came behind crash_%d_%d", id, last[0], last[1])
		}
		last = at
	}
}
