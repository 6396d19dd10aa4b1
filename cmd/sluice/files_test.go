package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFilesAreShared: what may be open for clients, and unused to receivers, leaves
// files for the rest.
func TestFilesAreShared(t *testing.T) {
	if all, clients, unused := openFiles(), connectionsAtMost(), unusedAtMost(); unused < 1 || all-clients-unused < all/8 && all-clients-unused < filesKept/2 {
		t.Errorf("of %d files %d are for clients and %d for unused connections", all, clients, unused)
	}
}

// TestFewFiles: a process that may open few files takes as many connections as
// leave it enough for its own work, goes on with what it has, streams among it, and
// takes more when others go.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	p := startProcess(t, []string{"--data", t.TempDir()}, "sh", "-c", `ulimit -n 200 && exec "$0" "$@"`)
	receiver := make(chan string, 100)
	hook := serveHook(t, receiver)
	if err := p.call(t.Context(), "POST", "/v1/webhooks", "application/json", fmt.Appendf(nil, `{"url":%q,"events":["*"]}`, hook), 201, nil); err != nil {
		t.Fatal(err)
	}
	old, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	answers := bufio.NewReader(old)
	viewer := member{client: &client{base: "http://" + p.address, token: p.key}}
	streams := []*listener{viewer.listen(t, "", "*")}
	publish := func(n int) {
		t.Helper()
		body := fmt.Sprintf(`{"type":"a.b","data":{"n":%d}}`, n)
		old.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(old, "POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", p.key, len(body), body)
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		var made struct{ ID string }
		if err := json.Unmarshal(text, &made); r.StatusCode != 202 || err != nil {
			t.Fatalf("%s: %s", r.Status, text)
		}
		for _, s := range streams {
			s.next(t, made.ID)
		}
		select {
		case text := <-receiver:
			if !strings.Contains(text, fmt.Sprintf(`"n":%d`, n)) {
				t.Fatalf("event %d: %s was delivered", n, text)
			}
		case <-time.After(patience):
			t.Fatalf("event %d isn't delivered", n)
		}
	}
	publish(1)
	var crowd []net.Conn
	for range 400 {
		c, err := net.DialTimeout("tcp", p.address, 5*time.Second)
		if err != nil {
			break // the system's queue is full, too
		}
		crowd = append(crowd, c)
		defer c.Close()
	}
	if len(crowd) < 150 {
		t.Fatalf("%d connections", len(crowd))
	}
	for n := range 5 { // each to a receiver that closes: every delivery takes a new connection
		publish(2 + n)
	}
	eventually(t, patience, func() error {
		if !strings.Contains(p.messages.String(), "as many connections are open as this process may have") {
			return fmt.Errorf("it says nothing of the crowd")
		}
		return nil
	})
	if said := p.messages.String(); strings.Contains(said, "too many open files") {
		t.Errorf("it ran out of files: %s", said)
	}
	for _, c := range crowd {
		c.Close()
	}
	if err := p.call(t.Context(), "GET", "/v1/webhooks", "", nil, 200, nil); err != nil { // on a new connection
		t.Error(err)
	}
	streams = append(streams, viewer.listen(t, "", "*"))
	publish(7)
}

// serveHook is a receiver that keeps no connection.
func serveHook(t *testing.T, bodies chan<- string) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		w.Header().Set("Connection", "close")
		w.WriteHeader(200)
		bodies <- string(text)
	})}
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return "http://" + ln.Addr().String()
}
