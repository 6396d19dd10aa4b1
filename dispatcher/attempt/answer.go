package attempt

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"
)

// reply is what matters of an answer.
type reply struct {
	status     int
	retryAfter string
	closes     bool      // the connection ends with it
	body       io.Reader // http.NoBody: it has none
}

// readAnswer reads the header of the answer, past any 1xx but 101: after that
// one, what follows isn't HTTP. first is when its first byte came.
func readAnswer(br *bufio.Reader) (a reply, first time.Time, err error) {
	for {
		if _, err := br.Peek(1); err != nil {
			return a, first, err // io.EOF: nothing came
		}
		if first.IsZero() {
			first = time.Now()
		}
		if a, ok := plainAnswer(br); ok {
			return a, first, nil
		}
		r, err := http.ReadResponse(br, nil)
		switch {
		case err != nil:
			return a, first, err
		case r.ProtoMajor != 1 || r.StatusCode < 100:
			return a, first, errNotHTTP
		case r.StatusCode >= 200 || r.StatusCode == http.StatusSwitchingProtocols:
			return reply{r.StatusCode, r.Header.Get("Retry-After"), r.Close, r.Body}, first, nil
		}
	}
}

// plainAnswer reads an answer as nearly all are, and makes nothing of the lines that
// don't matter: HTTP/1.1, of a length that is said, its header at hand. Whatever
// else there is it leaves to net/http, which has the last word.
func plainAnswer(br *bufio.Reader) (reply, bool) {
	const version = "HTTP/1.1 "
	head, _ := br.Peek(br.Buffered())
	end := bytes.Index(head, blankLine)
	if end < len(version)+3 || string(head[:len(version)]) != version {
		return reply{}, false
	}
	status, lines, _ := bytes.Cut(head[len(version):end], crlf)
	if len(status) < 3 || len(status) > 3 && status[3] != ' ' || !isLine(status) {
		return reply{}, false
	}
	code, ok := number(status[:3])
	if !ok || code < 200 || code == http.StatusNoContent || code == http.StatusNotModified {
		return reply{}, false
	}
	a, length := reply{status: code, body: http.NoBody}, -1
	for len(lines) > 0 {
		var line []byte
		line, lines, _ = bytes.Cut(lines, crlf)
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || !isLine(line) || !isToken(line[:colon]) {
			return reply{}, false
		}
		name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
		switch {
		case is(name, "content-length"):
			if length >= 0 {
				return reply{}, false
			}
			if length, ok = number(value); !ok {
				return reply{}, false
			}
		case is(name, "retry-after"):
			if a.retryAfter != "" || len(value) == 0 {
				return reply{}, false
			}
			a.retryAfter = string(value)
		case is(name, "connection"):
			if is(value, "close") {
				a.closes = true
			} else if !is(value, "keep-alive") {
				return reply{}, false
			}
		case is(name, "transfer-encoding"):
			return reply{}, false
		}
	}
	if length < 0 {
		return reply{}, false // it ends with the connection
	}
	br.Discard(end + len(blankLine)) // it is there
	if length > 0 {
		a.body = &sized{br, length}
	}
	return a, true
}

// is tells whether two texts in ASCII are the same but for the case of letters.
func is(b []byte, text string) bool {
	return len(b) == len(text) && strings.EqualFold(string(b), text)
}

// number reads digits and nothing else: a length that no answer exceeds.
func number(b []byte) (n int, ok bool) {
	if len(b) == 0 || len(b) > 9 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// sized is a body whose length was said.
type sized struct {
	br   *bufio.Reader
	left int
}

func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.br.Read(p[:min(len(p), s.left)])
	if s.left -= n; err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
