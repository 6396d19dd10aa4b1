package web_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/web"
)

var update = flag.Bool("update", false, "write the golden answers anew")

// TestHostile sends what no good client sends. After a refusal for framing the
// connection is closed, so that nothing behind it is taken for a request. What is
// answered, word for word, is in testdata/hostile.golden.
func TestHostile(t *testing.T) {
	// What doesn't come is waited for by an impatient server; all else comes in its own
	// time, on a machine that has much else to do.
	s, impatient := start(t, web.Config{}, routes...), start(t, web.Config{ReadTimeout: 3 * time.Second}, routes...)
	const get2 = "GET /open HTTP/1.1\r\nHost: a\r\n\r\n"
	const last = "GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	cases := []struct {
		name, raw string
		want      []int
		closed    bool // by the server
	}{
		{"plain", get2, []int{200}, false},
		{"pipelined", get2 + get2, []int{200, 200}, false},
		{"both length and chunked", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"chunked and length, other order", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"two lengths that differ", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd" + get2, []int{400}, true},
		{"the same length twice", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd" + get2, []int{400}, true},
		{"a list of lengths", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd" + get2, []int{400}, true},
		{"a length with a sign", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd" + get2, []int{400}, true},
		{"a negative length", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n" + get2, []int{400}, true},
		{"a length in hex", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd" + get2, []int{400}, true},
		{"a length that overflows", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551620\r\n\r\nabcd" + get2, []int{400}, true},
		{"chunked ends the connection", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n" + get2, []int{200}, true},
		{"two encodings", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a list of encodings", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"identity as encoding", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcd" + get2, []int{400}, true},
		{"an encoding that hides", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\nabcd" + get2, []int{400}, true},
		{"encoding on HTTP/1.0", "POST /open HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a chunk that isn't one", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabcd\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a chunk with a bare LF", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\nabcd\n0\n\n" + get2, []int{400}, true},
		{"a space before the colon", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nabcd" + get2, []int{400}, true},
		{"a header on two lines", "GET /open HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n" + get2, []int{400}, true},
		{"an encoding on two lines", "POST /open HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"bare LF", "GET /open HTTP/1.1\nHost: a\n\n" + get2, []int{400}, true},
		{"a NUL in a header", "GET /open HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n" + get2, []int{400}, true},
		{"a header without a colon", "GET /open HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n" + get2, []int{400}, true},
		{"a header without a name", "GET /open HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n" + get2, []int{400}, true},
		{"no host", "GET /open HTTP/1.1\r\n\r\n" + get2, []int{400}, true},
		{"two hosts", "GET /open HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + get2, []int{400}, true},
		{"an empty host", "GET /open HTTP/1.1\r\nHost:\r\n\r\n" + get2, []int{400}, true},
		{"a host with a user", "GET /open HTTP/1.1\r\nHost: a@b\r\n\r\n" + get2, []int{400}, true},
		{"a host with a path", "GET /open HTTP/1.1\r\nHost: a/b\r\n\r\n" + get2, []int{400}, true},
		{"a host with a space", "GET /open HTTP/1.1\r\nHost: a b\r\n\r\n" + get2, []int{400}, true},
		{"a host with a port", "GET /open HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", []int{200}, false},
		{"HTTP/1.0", "GET /open HTTP/1.0\r\nHost: a\r\n\r\n", []int{200}, true},
		{"HTTP/0.9", "GET /open\r\n\r\n", []int{400}, true},
		{"HTTP/1.2", "GET /open HTTP/1.2\r\nHost: a\r\n\r\n" + get2, []int{505}, true},
		{"HTTP/9.9", "GET /open HTTP/9.9\r\nHost: a\r\n\r\n" + get2, []int{505}, true},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{505}, true},
		{"no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}, true},
		{"a method of another kind", "TRACE /open HTTP/1.1\r\nHost: a\r\n\r\n", []int{405}, false},
		{"CONNECT", "CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, false},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, false},
		{"a whole URL", "GET http://a/open HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, false},
		{"a NUL in the path", "GET /things/a%00b HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, false},
		{"a fragment in the path", "GET /open#a HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, false},
		{"dots", "GET /things/../open HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}, false},
		{"dots, encoded", "GET /things/%2e%2e/open HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}, false},
		{"slashes", "GET //open HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}, false},
		{"a slash behind", "GET /open/ HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}, false},
		{"a slash, encoded", "GET /%6fpen HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}, false},
		{"a bad escape", "GET /things/%zz HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}, false},
		{"headers that are too large", "GET /open HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 17<<10) + "\r\n\r\n", []int{431}, true},
		{"a path that is too large", "GET /" + strings.Repeat("x", 17<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", []int{431}, true},
		{"a large body declared, none sent", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n", []int{413}, true},
		{"a body one byte too large, chunked", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n" + strings.Repeat("x", 1<<20+1) + "\r\n0\r\n\r\n", []int{413}, true},
		{"a body as large as may be", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("x", 1<<20), []int{200}, false},
		{"a route's own bound", "POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + strings.Repeat("x", 2000000), []int{200}, false},
		{"a compressed body", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", []int{415}, false},
		{"a body that doesn't come", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", []int{408}, true},
		{"headers that don't come", "GET /open HTTP/1.1\r\nHost: a\r\nX-", []int{408}, true},
		{"a line before the request", "\r\n" + get2, []int{200}, false},
		{"rubbish behind a request", get2 + "garbage\r\n\r\n", []int{200, 400}, true},
		{"a body behind a request without a length", "POST /open HTTP/1.1\r\nHost: a\r\n\r\nabcd\r\n\r\n", []int{200, 400}, true},
		{"more body than its length", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /open HTTP/1.1\r\nHost: a\r\n\r\n", []int{200, 200}, false},
		{"an empty length", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n" + get2, []int{400}, true},
		{"a length with a word", "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4 bytes\r\n\r\nabcd" + get2, []int{400}, true},
		{"an encoding in capitals", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n" + get2, []int{200}, true},
		{"an encoding with a tab", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + get2, []int{200}, true},
		{"chunked twice in a list", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a chunk whose size overflows", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabcd\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a chunk with a sign", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\nabcd\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a chunk in 0x", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a line end in what extends a chunk", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;a\nb\r\nabcd\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a chunk without its end", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcdef\r\n0\r\n\r\n" + get2, []int{400}, true},
		{"a trailer that would frame", "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n" + get2, []int{400}, true},
		{"a NUL in the request line", "GET /op\x00en HTTP/1.1\r\nHost: a\r\n\r\n" + get2, []int{400}, true},
		{"a CR in a header", "GET /open HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n" + get2, []int{400}, true},
		{"a space in a name", "GET /open HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n" + get2, []int{400}, true},
		{"a method that is none", "G@T /open HTTP/1.1\r\nHost: a\r\n\r\n" + get2, []int{400}, true},
		{"a method in small letters", "get /open HTTP/1.1\r\nHost: a\r\n\r\n", []int{405}, false},
		{"tabs in the request line", "GET\t/open\tHTTP/1.1\r\nHost: a\r\n\r\n" + get2, []int{400}, true},
		{"two spaces in the request line", "GET  /open HTTP/1.1\r\nHost: a\r\n\r\n" + get2, []int{400}, true},
		{"a whole URL of another host", "GET http://b/open HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, false},
		{"a whole URL with a user", "GET http://u@b/open HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, false},
		{"a whole URL without a path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, false},
		{"a whole URL of another kind", "GET ftp://a/open HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, false},
		{"a target that is no path", "GET open HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, true},
		{"backslashes", "GET \\open HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}, true},
		{"a host with a NUL", "GET /open HTTP/1.1\r\nHost: a\x00\r\n\r\n" + get2, []int{400}, true},
		{"many headers", "GET /open HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 3000) + "\r\n", []int{431}, true},
		{"expects to be told to go on", "POST /open HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd", []int{100, 200}, false},
		{"expects it for a body that is too large", "POST /open HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", []int{413}, true},
		{"expects it for one that is too large of a stranger", "POST /things HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n", []int{401}, true},
		{"expects it, and sends what is too large at once", "POST /open HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2000000\r\n\r\n" + strings.Repeat("a", 2_000_000), []int{413}, true},
		{"expects something else", "POST /open HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 4\r\n\r\nabcd", []int{200}, false},
		{"an upgrade to HTTP/2", "GET /open HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", []int{200}, false},
		{"a close that was asked for", "GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + get2, []int{200}, true},
		{"a query with a NUL", "GET /open?a=%00 HTTP/1.1\r\nHost: a\r\n\r\n", []int{200}, false},
	}
	var mu sync.Mutex
	golden := make(map[string]string)
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				// Where the connection stays, one more request is answered, and ends it.
				raw, want := c.raw, c.want
				if !c.closed {
					raw, want = raw+last, slices.Concat(want, []int{200})
				}
				addr := s.addr
				if slices.Contains(c.want, 408) {
					addr = impatient.addr
				}
				statuses, closed, text := exchange(t, addr, raw)
				if fmt.Sprint(statuses) != fmt.Sprint(want) || !closed {
					t.Errorf("got %v, closed %v; want %v:\n%.600s", statuses, closed, want, text)
				}
				if strings.Contains(text, "Server:") {
					t.Errorf("names the server: %s", text)
				}
				mu.Lock()
				defer mu.Unlock()
				golden[c.name] = answers(t, text)
			})
		}
	})
	var all bytes.Buffer
	for _, c := range cases {
		fmt.Fprintf(&all, "%s\n%s\n", c.name, golden[c.name])
	}
	path := filepath.Join("testdata", "hostile.golden")
	if *update {
		if err := os.WriteFile(path, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, all.Bytes()) {
		t.Errorf("the answers aren't those of %s (-update writes it):\n%s", path, &all)
	}
}

// answers gives the status lines, what matters of the headers, and the bodies.
func answers(t *testing.T, text string) string {
	var b strings.Builder
	for text != "" {
		head, rest, ok := strings.Cut(text, "\r\n\r\n")
		if !ok {
			fmt.Fprintf(&b, "    ! %q\n", text)
			break
		}
		status, headers, _ := strings.Cut(head, "\r\n")
		fmt.Fprintf(&b, "    %s", status)
		length := 0
		for line := range strings.SplitSeq(headers, "\r\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "Content-Length":
				fmt.Sscan(value, &length)
			case "Connection", "Allow", "Content-Type":
				fmt.Fprintf(&b, "; %s", line)
			}
		}
		b.WriteByte('\n')
		if length > len(rest) {
			t.Errorf("a body of %d bytes, and only %d came", length, len(rest))
			length = len(rest)
		}
		if body := rest[:length]; body != "" {
			fmt.Fprintf(&b, "    %s\n", body)
			if !json.Valid([]byte(body)) {
				t.Errorf("a body that isn't JSON: %s", body)
			}
		}
		text = rest[length:]
	}
	return b.String()
}

// A request that comes byte by byte has the same time as any other, and an idle
// connection ends.
func TestSlowClients(t *testing.T) {
	s := start(t, web.Config{ReadTimeout: time.Second, IdleTimeout: time.Second}, routes...)
	trickle := func(c *caller, text string) {
		for {
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond) // a real client, in real time
		}
	}
	for name, begin := range map[string]string{
		"no byte":          "",
		"half a header":    "GET /open HTTP/1.1\r\nHost: a\r\nX: ",
		"half a body":      "POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
		"half a chunk":     "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n",
		"a chunk's length": "POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, s.addr, "")
			io.WriteString(c, begin)
			if strings.HasPrefix(name, "half") {
				go trickle(c, "a")
			}
			began := time.Now()
			c.SetReadDeadline(began.Add(20 * time.Second))
			text, err := io.ReadAll(c)
			if errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasPrefix(string(text), "HTTP/1.1 408 ") && err == nil {
				t.Errorf("after %v: %q, %v", time.Since(began), text, err)
			}
		})
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		c := dial(t, s.addr, "")
		c.ask(t, "/open", 200)
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := c.answers.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("an idle connection got %d, %v", n, err)
		}
	})
}

// A connection isn't for ever: after so many requests it is closed, and says so.
func TestManyRequestsOnOneConnection(t *testing.T) {
	s := start(t, web.Config{}, routes...)
	c := dial(t, s.addr, "")
	go func() {
		for range 100 {
			if _, err := io.WriteString(c, strings.Repeat("GET /open HTTP/1.1\r\nHost: a\r\n\r\n", 101)); err != nil {
				return
			}
		}
	}()
	answered := 0
	for {
		resp, err := http.ReadResponse(c.answers, nil)
		if err != nil {
			t.Fatalf("after %d answers: %v", answered, err)
		}
		io.Copy(io.Discard, resp.Body)
		if answered++; resp.Close {
			break
		}
	}
	if answered != 10_000 {
		t.Errorf("%d requests were answered", answered)
	}
}
