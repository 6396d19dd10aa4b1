package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	batchEvents = 1000    // the API's limit
	batchBytes  = 3 << 20 // below the API's 4 MiB; of a line as well
	publishFor  = 2 * time.Minute
	mostBad     = 100 // lines, before it is the wrong file
)

// publisher gathers events into batches. It holds one at a time.
type publisher struct {
	ctx  context.Context
	api  *client
	ids  io.Writer // nil: they aren't printed
	from int
	id   func(line int, text []byte) string // of an event without one

	progress progress
	batch    []line
	bytes    int // of the batch
	through  int // lines up to here are published, or were told as bad
	bad      int
	reached  bool // sluice has answered
}

// errBadLines says that no more than the lines told of is missing.
var errBadLines = errors.New("lines that weren't published")

// errInterrupted says that a signal ended it.
var errInterrupted = errors.New("interrupted")

// errShort says that a file has fewer lines than it was to begin at.
var errShort = errors.New("the file ends")

// line is one event on its way.
type line struct {
	number int
	text   []byte
}

// one publishes a single event, which has no line.
func (p *publisher) one(text []byte) error {
	text, err := p.withID(0, text)
	if err != nil {
		return err
	}
	p.batch = []line{{0, text}}
	return p.flush()
}

// lines publishes what in holds. An error says how far it came.
func (p *publisher) lines(in io.Reader) error {
	err := p.read(bufio.NewReaderSize(in, 64<<10))
	p.progress.done()
	switch {
	case errors.Is(err, errShort):
		return err
	case err != nil && p.through >= p.from:
		return fmt.Errorf("%w; what is in the lines up to %d was published", err, p.through)
	case err != nil:
		return fmt.Errorf("%w; nothing is known to be published", err)
	case p.bad > 0:
		return fmt.Errorf("%w: %d, and all others were", errBadLines, p.bad)
	}
	return nil
}

func (p *publisher) read(in *bufio.Reader) error {
	for number := 1; ; number++ {
		text, size, err := readLine(in, batchBytes)
		if err != nil && err != io.EOF {
			return errors.Join(p.flush(), err)
		}
		if p.ctx.Err() != nil {
			return errInterrupted
		}
		if number >= p.from {
			if err := p.add(number, text, size); err != nil {
				return err
			}
		} else {
			p.progress.size -= int64(size)
			p.through = number
		}
		if err == io.EOF {
			if size == 0 {
				number-- // behind the last newline is no line
			}
			if number+1 < p.from {
				return fmt.Errorf("--from %d: %w with line %d", p.from, errShort, number)
			}
			return p.flush()
		}
	}
}

// readLine reads a line without its end, and how many bytes it took; of one that
// is too long it gives nil.
func readLine(in *bufio.Reader, most int) (text []byte, size int, err error) {
	for {
		part, err := in.ReadSlice('\n')
		size += len(part)
		if size <= most {
			text = append(text, part...)
		}
		if err != bufio.ErrBufferFull {
			if size > most {
				text = nil
			}
			return text, size, err
		}
	}
}

// add puts a line into the batch, after that which is full.
func (p *publisher) add(number int, text []byte, size int) error {
	defer p.progress.passed(size)
	var why error
	switch trimmed := bytes.TrimSpace(text); {
	case size > batchBytes:
		why = errors.New("it has more than 3 MiB")
	case len(trimmed) == 0:
		return nil
	default:
		text, why = p.withID(number, trimmed)
	}
	if why != nil {
		return p.refused(number, why.Error())
	}
	if len(p.batch) == batchEvents || p.bytes+len(text) > batchBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.batch = append(p.batch, line{number, text})
	p.bytes += len(text) + 1
	return nil
}

// withID gives the event an id if it has none. The rest of it stays as it was
// written: the API has the last word on it.
func (p *publisher) withID(number int, text []byte) ([]byte, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(text))
	if dec.PeekKind() != '{' {
		return nil, errors.New("it is no JSON object")
	}
	dec.ReadToken()
	empty, has := dec.PeekKind() == '}', false
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err == nil {
			has = has || name.String() == "id"
			err = dec.SkipValue()
		}
		if err != nil {
			return nil, errors.New("it is no JSON: " + strings.TrimPrefix(err.Error(), "jsontext: "))
		}
	}
	dec.ReadToken()
	if _, err := dec.ReadToken(); err != io.EOF {
		return nil, errors.New("something stands behind the object")
	}
	if has {
		return bytes.Clone(text), nil
	}
	rest := bytes.TrimLeft(text[1:], " \t\r\n")
	with := strconv.AppendQuote([]byte(`{"id":`), p.id(number, text))
	if !empty {
		with = append(with, ',')
	}
	return append(with, rest...), nil
}

// refused tells of a line that can't be published.
func (p *publisher) refused(number int, why string) error {
	p.bad++
	p.progress.say(fmt.Sprintf("line %d: %s", number, why))
	if p.bad == mostBad {
		return fmt.Errorf("%d lines weren't published: this isn't a file of events", p.bad)
	}
	return nil
}

// flush publishes the batch, without the lines that are refused.
func (p *publisher) flush() error {
	for len(p.batch) > 0 {
		last := p.batch[len(p.batch)-1].number
		ids, err := p.send()
		var no *refusedError
		switch {
		case errors.As(err, &no) && p.batch[0].number > 0 && no.lines() != nil:
			if err := p.leaveOut(no.lines()); err != nil {
				return err
			}
			if len(p.batch) > 0 {
				continue
			}
		case err != nil:
			return err
		}
		if p.ids != nil {
			out := bufio.NewWriter(p.ids)
			for _, id := range ids {
				fmt.Fprintln(out, id)
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
		p.progress.published(len(ids))
		p.through = last
		p.batch, p.bytes = p.batch[:0], 0
	}
	return nil
}

// leaveOut takes the lines that were refused out of the batch; why is by their
// place in it.
func (p *publisher) leaveOut(why map[int]string) error {
	kept := p.batch[:0:0]
	for n, l := range p.batch {
		if why[n] == "" {
			kept = append(kept, l)
		} else if err := p.refused(l.number, why[n]); err != nil {
			return err
		}
	}
	p.batch = kept
	return nil
}

// lines says why, by the place of an event in its batch; nil: it isn't about some
// of them.
func (e *refusedError) lines() map[int]string {
	var why map[int]string
	for _, i := range e.issues {
		if len(i.path) < 2 || i.path[0] != "line" && i.path[0] != "events" {
			return nil
		}
		n, err := strconv.Atoi(i.path[1])
		if i.path[0] == "line" {
			n--
		}
		if err != nil || n < 0 || n >= batchEvents {
			return nil
		}
		if why == nil {
			why = make(map[int]string)
		}
		if why[n] == "" {
			why[n] = strings.TrimPrefix(strings.Join(i.path[2:], ".")+": ", ": ") + i.message
		}
	}
	return why
}

// send publishes the batch, again and again while sluice can't take it. It may have
// been logged all the same; its ids see to it that it isn't again.
func (p *publisher) send() ([]string, error) {
	var body bytes.Buffer
	for _, l := range p.batch {
		body.Write(l.text)
		body.WriteByte('\n')
	}
	for began, told := time.Now(), ""; ; {
		answer, err := p.api.send(p.ctx, http.MethodPost, "/v1/events", "application/x-ndjson", body.Bytes())
		if err == nil {
			p.reached = true
			var list struct{ IDs []string }
			if err := json.Unmarshal(answer, &list); err != nil || len(list.IDs) != len(p.batch) {
				return nil, fmt.Errorf("%s answered what is no list of ids: does --url name a sluice?", p.api.base)
			}
			return list.IDs, nil
		}
		if p.ctx.Err() != nil {
			return nil, errInterrupted
		}
		wait, again := p.again(err)
		if !again || time.Since(began)+wait > publishFor {
			return nil, err
		}
		if why := err.Error(); why != told {
			told = why
			p.progress.say(why + "; it is sent again")
		}
		select {
		case <-time.After(wait):
		case <-p.ctx.Done():
			return nil, errInterrupted
		}
	}
}

// again says whether, and when, to send again what ended so. A sluice that was
// never reached is probably somewhere else.
func (p *publisher) again(err error) (wait time.Duration, again bool) {
	var no *refusedError
	if errors.As(err, &no) {
		p.reached = true
		again = no.status == http.StatusServiceUnavailable || no.status == http.StatusTooManyRequests
		return max(no.retryAfter, time.Second), again
	}
	return time.Second, p.reached
}
