package web

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"sluice/pkg/dialect"
)

// checkFraming refuses a request whose bounds two servers in a row could see in
// different places, and what else the library lets pass. Its connection is
// closed: what follows on it can't be trusted. closeAfter says that the
// connection ends with a good request too.
func checkFraming(h *fasthttp.RequestHeader) (refused *dialect.Error, closeAfter bool) {
	bad := func(message string) (*dialect.Error, bool) {
		return &dialect.Error{Status: 400, Code: dialect.BadRequest, Message: message}, true
	}
	switch p := string(h.Protocol()); p {
	case "HTTP/1.1", "HTTP/1.0":
	default:
		return &dialect.Error{Status: 505, Code: dialect.BadRequest, Message: "use HTTP/1.1"}, true
	}
	var length, encoding, hosts int
	for rest := h.RawHeaders(); len(rest) > 0; {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(line) == 0 || line[0] == '\r' {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			return bad("a header is continued on a second line: write it on one")
		}
		line, ok := bytes.CutSuffix(line, []byte("\r"))
		if !ok {
			return bad("a line ends with LF alone: end it with CR LF")
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case !isToken(name):
			return bad("a header's name has characters that none may have")
		case bytes.EqualFold(name, []byte("Content-Length")):
			length++
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			encoding++
		case bytes.EqualFold(name, []byte("Host")):
			hosts++
			if !validHost(bytes.TrimSpace(value)) {
				return bad("Host is no host")
			}
		}
	}
	switch {
	case length > 0 && encoding > 0:
		return bad("the request has both Content-Length and Transfer-Encoding: send one")
	case length > 1 || encoding > 1 || hosts > 1:
		return bad("the request has a header twice that may stand once")
	}
	return nil, encoding > 0
}

// isToken reports whether b is a token as RFC 9110 has it.
func isToken(b []byte) bool {
	for _, c := range b {
		if c >= 128 || !tokenChars[c] {
			return false
		}
	}
	return len(b) > 0
}

var tokenChars = func() (is [128]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		is[c] = true
	}
	return is
}()

// validHost reports whether b is a name or address, and maybe a port.
func validHost(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == '_', c == ':', c == '[', c == ']', c == '%':
		default:
			return false
		}
	}
	return len(b) > 0 && len(b) <= 255
}
