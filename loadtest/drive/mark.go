package drive

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/loadtest/book"
	"sluice/pkg/event"
)

// marks are how a run's events are written, and known again wherever they come out.
// Each is known to the byte, but for its timestamp and cursor:
//
//	{"type":"load.RUN.NAME","id":"load_RUN_N","timestamp":"…","load":"RUN","n":N,"org":O,"pad":"…","cursor":"…"}
type marks struct {
	run    string
	head   []byte // what all messages of events of the run begin with
	byName map[string]int
	tails  [][][]byte // what of data follows N, by publisher and org
	of     func(number int) (publisher, org int, known bool)
}

// newName gives a name that no other run has: types of events may have it.
func newName() string { return "r" + strings.ToLower(rand.Text()[:12]) }

func newMarks(run string, s *Scenario, orgs int, b *book.Book) *marks {
	m := &marks{run: run, head: []byte(`{"type":"load.` + run + `.`), byName: make(map[string]int), of: b.Of}
	for i, p := range s.Publishers {
		m.byName[p.Name] = i
		var tails [][]byte
		for org := range orgs {
			rest := fmt.Sprintf(`,"org":%d,"pad":"`, org+1)
			pad := max(0, p.Size-len(`{"load":"","n":1234567`+run+rest+`"}`))
			tails = append(tails, []byte(rest+strings.Repeat("x", pad)+`"`))
		}
		m.tails = append(m.tails, tails)
	}
	return m
}

func (m *marks) typ(publisher string) string { return "load." + m.run + "." + publisher }

func (m *marks) id(number int) string { return "load_" + m.run + "_" + strconv.Itoa(number) }

// description is that of the run's endpoints, by which they are found again.
func (m *marks) description() string { return "sluice loadtest, run " + m.run }

// number reads what id wrote; -1: it didn't.
func (m *marks) number(id string) int {
	text, ours := strings.CutPrefix(id, "load_"+m.run+"_")
	number, err := strconv.Atoi(text)
	if _, _, known := m.of(number); !ours || err != nil || !known {
		return -1
	}
	return number
}

// appendEvent appends an event as it is published.
func (m *marks) appendEvent(dst []byte, p *Publisher, number, key int) []byte {
	publisher, org, _ := m.of(number)
	dst = append(append(append(dst, m.head...), p.Name...), `","id":"load_`...)
	dst = append(append(append(dst, m.run...), '_'), strconv.Itoa(number)...)
	dst = append(append(append(append(dst, `","key":"`...), p.Name...), '-'), strconv.Itoa(key)...)
	if p.Broadcast {
		dst = append(dst, `","audience":"*`...)
	}
	dst = append(append(append(dst, `","data":{"load":"`...), m.run...), `","n":`...)
	dst = append(strconv.AppendInt(dst, int64(number), 10), m.tails[publisher][org]...)
	return append(dst, '}', '}')
}

// What a message may be that isn't an event of the run as it was published.
var (
	errNoEvent = errors.New("no event of this run")
	errAltered = errors.New("it isn't as it was published")
)

// event reads a message or a webhook's body. The cursor is empty where there is
// none. An error of errAltered comes with the number, as far as it can be read.
func (m *marks) event(text []byte) (number int, cursor string, err error) {
	rest, ours := bytes.CutPrefix(text, m.head)
	if !ours {
		return -1, "", errNoEvent
	}
	name, rest, _ := bytes.Cut(rest, []byte(`"`))
	publisher, known := m.byName[string(name)]
	rest, ok := bytes.CutPrefix(rest, []byte(`,"id":"load_`+m.run+`_`))
	if !known || !ok {
		return -1, "", errAltered
	}
	digits, rest, _ := bytes.Cut(rest, []byte(`","timestamp":"`))
	if number, err = strconv.Atoi(string(digits)); err != nil {
		return -1, "", errAltered
	}
	if len(rest) < len(event.TimestampLayout) {
		return number, "", errAltered
	}
	if rest, ok = bytes.CutPrefix(rest[len(event.TimestampLayout):], []byte(`",`)); ok {
		rest, ok = m.members(rest, publisher, number)
	}
	if !ok {
		return number, "", errAltered
	}
	if bytes.Equal(rest, []byte("}")) {
		return number, "", nil
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"cursor":"`)); !ok || len(rest) != event.CursorLen+2 || string(rest[event.CursorLen:]) != `"}` {
		return number, "", errAltered
	}
	return number, string(rest[:event.CursorLen]), nil
}

// data reads an event's data, where the type stands beside it.
func (m *marks) data(typ, text []byte) (number int, err error) {
	name, ours := bytes.CutPrefix(typ, m.head[len(`{"type":"`):])
	if !ours {
		return -1, errNoEvent
	}
	publisher, known := m.byName[string(name)]
	rest, ok := bytes.CutPrefix(text, []byte(`{"load":"`+m.run+`","n":`))
	digits := slices.IndexFunc(rest, func(c byte) bool { return c < '0' || c > '9' })
	if !known || !ok || digits < 0 {
		return -1, errAltered
	}
	if number, err = strconv.Atoi(string(rest[:digits])); err != nil {
		return -1, errAltered
	}
	if rest, ok = m.members(text[1:], publisher, number); !ok || string(rest) != "}" {
		return number, errAltered
	}
	return number, nil
}

// members reads the members of an event's data, and gives what follows them.
func (m *marks) members(text []byte, publisher, number int) (rest []byte, ok bool) {
	of, org, known := m.of(number)
	if !known || of != publisher {
		return nil, false
	}
	if rest, ok = bytes.CutPrefix(text, []byte(`"load":"`+m.run+`","n":`)); !ok {
		return nil, false
	}
	var digits [20]byte
	if rest, ok = bytes.CutPrefix(rest, strconv.AppendInt(digits[:0], int64(number), 10)); !ok {
		return nil, false
	}
	return bytes.CutPrefix(rest, m.tails[publisher][org])
}
