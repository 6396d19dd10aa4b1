package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/gateway/web"
	"sluice/pkg/control"
)

func TestShutdownAnswersWhatWasAsked(t *testing.T) {
	begun, goOn := make(chan context.Context, 1), make(chan struct{})
	s := start(t, web.Config{}, web.Route{Method: "GET", Path: "/slow", Open: true, Serve: func(c *web.Call) error {
		begun <- c.Context()
		<-goOn
		c.JSON(200, []byte("{}"))
		return nil
	}})
	idle, err := net.Dial("tcp", s.addr) // has said nothing yet
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	answer := make(chan string, 1)
	go func() {
		_, closed, text := exchangeSlow(s.addr, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
		answer <- fmt.Sprint(closed, " ", text)
	}()
	ctx := <-begun
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	for { // wait until it takes no more
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		c.Close()
	}
	if ctx.Err() != nil {
		t.Error("the call's context ended with the beginning of the shutdown")
	}
	close(goOn)
	if got := <-answer; !strings.HasPrefix(got, "true HTTP/1.1 200") || !strings.Contains(got, "Connection: close") {
		t.Errorf("answer %s", got)
	}
	idle.Close()
	if err := <-down; err != nil {
		t.Error(err)
	}
	if ctx.Err() == nil {
		t.Error("the call's context never ended")
	}
}

// TestShutdownTellsWhoCallsOften: a connection that is between two requests isn't
// closed, for the next may be on its way; its answer says that it was the last.
func TestShutdownTellsWhoCallsOften(t *testing.T) {
	s := start(t, web.Config{Unused: time.Hour}, routes...)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	ask := func() *http.Response {
		t.Helper()
		io.WriteString(conn, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		return resp
	}
	if ask().Close {
		t.Error("closed before its time")
	}
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	for { // until it has begun
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		c.Close()
	}
	time.Sleep(50 * time.Millisecond) // as it would be closed by then
	if !ask().Close {
		t.Error("the answer doesn't say that it was the last")
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("the connection goes on: %v", err)
	}
}

// TestShutdownClosesWhatIsNotUsed: a connection whose client has nothing to ask holds
// nobody up.
func TestShutdownClosesWhatIsNotUsed(t *testing.T) {
	s := start(t, web.Config{IdleTimeout: time.Hour}, routes...)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	io.WriteString(conn, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if n, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("%v came, %v", n, err)
	}
}

func TestRefuseTakesNoMoreConnectionsAndKeepsThoseThereAre(t *testing.T) {
	s := start(t, web.Config{}, routes...)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := bufio.NewReader(conn)
	ask := func() {
		t.Helper()
		io.WriteString(conn, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(answer, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	ask()
	if err := s.Refuse(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("a new connection was taken")
	}
	ask()
	conn.Close()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRefuseLetsInWhoWaits: connections that wait to be taken, because there is much
// else to do, are answered.
func TestRefuseLetsInWhoWaits(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := web.New(web.Config{Access: access{control.Enterprise}})
	for _, r := range routes {
		server.Handle(r)
	}
	served := make(chan error)
	go func() { served <- server.Serve(sluggish{ln.(*net.TCPListener)}) }()

	var conns []net.Conn
	for range 20 {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
		conns = append(conns, conn)
	}
	if err := server.Refuse(); err != nil {
		t.Error(err)
	}
	for i, conn := range conns {
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 200 {
			t.Errorf("%d: %v, %v", i, resp, err)
		}
	}
	if err := errors.Join(server.Shutdown(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}

// sluggish takes a connection every few milliseconds.
type sluggish struct{ *net.TCPListener }

func (l sluggish) Accept() (net.Conn, error) {
	time.Sleep(4 * time.Millisecond)
	return l.TCPListener.Accept()
}

func exchangeSlow(addr, raw string) (status int, closed bool, text string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, false, err.Error()
	}
	defer conn.Close()
	io.WriteString(conn, raw)
	all, err := io.ReadAll(conn)
	return 0, err == nil, string(all)
}

func TestShutdownCutsOffWhatTakesTooLong(t *testing.T) {
	begun := make(chan struct{})
	s := start(t, web.Config{}, web.Route{Method: "GET", Path: "/stuck", Open: true, Serve: func(c *web.Call) error {
		close(begun)
		<-c.Context().Done()
		return c.Context().Err()
	}})
	answer := make(chan string, 1)
	go func() {
		_, _, text := exchangeSlow(s.addr, "GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
		answer <- text
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-answer
}
