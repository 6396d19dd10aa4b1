package attempt

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"
)

// What is read without net/http is what net/http would have read: status, body,
// what is left behind it, and whether the connection goes on.
func FuzzPlainAnswer(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200\r\ncontent-length:0\r\nConnection: Keep-Alive\r\n\r\nmore",
		"HTTP/1.1 503 No\r\nRetry-After: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nshort",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
		"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nRetry-After:\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\nabcde",
		"HTTP/1.1 200 OK\r\nContent-Length: 1234567890123\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		br := bufio.NewReader(bytes.NewReader(text))
		if len(text) == 0 || len(text) > br.Size() {
			return
		}
		if _, err := br.Peek(len(text)); err != nil {
			t.Fatal(err)
		}
		a, ok := plainAnswer(br)
		if !ok {
			if rest, _ := io.ReadAll(br); !bytes.Equal(rest, text) {
				t.Fatalf("it isn't plain, and of %q %q is left", text, rest)
			}
			return
		}
		theirs := bufio.NewReader(bytes.NewReader(text))
		r, err := http.ReadResponse(theirs, nil)
		if err != nil {
			t.Fatalf("net/http doesn't read %q: %v", text, err)
		}
		if a.status != r.StatusCode || a.closes != r.Close || a.retryAfter != r.Header.Get("Retry-After") || (a.body == http.NoBody) != (r.Body == http.NoBody) {
			t.Errorf("%q is %+v, and to net/http %+v", text, a, r)
		}
		body, whole := readBody(a.body, make([]byte, 100))
		want, wantWhole := readBody(r.Body, make([]byte, 100))
		if !bytes.Equal(body, want) || whole != wantWhole {
			t.Errorf("body of %q: %q, %t; to net/http %q, %t", text, body, whole, want, wantWhole)
		}
		rest, _ := io.ReadAll(br)
		if wantRest, _ := io.ReadAll(theirs); whole && !bytes.Equal(rest, wantRest) {
			t.Errorf("behind %q lies %q; to net/http %q", text, rest, wantRest)
		}
	})
}

// The usual answers are plain: that is what it is for.
func TestUsualAnswersArePlain(t *testing.T) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nServer: fasthttp\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX-Powered-By: Express\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 2\r\nETag: W/\"2-nOO9QiTIwXgNtWtBJezz8kv3SLc\"\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nok",
		"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	} {
		br := bufio.NewReader(bytes.NewReader([]byte(text)))
		br.Peek(1)
		if _, ok := plainAnswer(br); !ok {
			t.Errorf("%q is left to net/http", text)
		}
	}
}
