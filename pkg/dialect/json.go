package dialect

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/event"
)

// AppendString adds s as a JSON string, in the form that JSON.stringify prints;
// bytes that are no UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

// AppendTexts adds a list of strings.
func AppendTexts(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}

// AppendMember adds a comma, and a member that is a string.
func AppendMember(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":`...)
	return AppendString(dst, value)
}

// AppendNumber adds a comma, and a member that is a whole number, or null where it
// isn't known.
func AppendNumber(dst []byte, name string, n int64, known bool) []byte {
	dst = append(append(append(dst, `,"`...), name...), `":`...)
	if !known {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, n, 10)
}

// AppendNext adds a comma, and the place where a list goes on; empty: it has ended.
func AppendNext(dst []byte, next string) []byte {
	if next == "" {
		return append(dst, `,"nextCursor":null`...)
	}
	return AppendMember(dst, "nextCursor", next)
}

// Timestamp gives a time as every dialect shows it: in UTC, with milliseconds.
func Timestamp(t time.Time) string { return t.UTC().Format(event.TimestampLayout) }

// Clip keeps text of a client's short enough to be told back.
func Clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
