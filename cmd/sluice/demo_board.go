package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/pkg/event"
)

// board prints what happens and keeps the accounts: every event that was
// published is owed to everybody who may see it and asked for it. All methods
// may be called from any number of goroutines.
type board struct {
	readers []reader

	mu      sync.Mutex
	out     io.Writer
	colours bool
	began   time.Time
	stop    func()
	entries map[string]*entry
	counts  struct {
		published, streamed, delivered, refused, retried, repeated, outside int
	}
	wrong    []string                // what must not happen, in words; the first few
	wrongs   int                     // how often it did
	streams  *hdrhistogram.Histogram // microseconds from publish to receipt
	webhooks *hdrhistogram.Histogram // the same, of first attempts
}

// reader is somebody who receives events.
type reader struct {
	who, org string
	patterns event.Patterns
}

// entry is one event's account.
type entry struct {
	typ   string
	trade int
	to    []string // orgs, or "*"
	began time.Time
	owed  []string // who hasn't received it
	// early holds lines about it until the publisher has its answer, which may be
	// later than the first receipts: it is read from the top.
	early []string
	acked bool
}

func (e *entry) includes(org string) bool { return e.to[0] == "*" || slices.Contains(e.to, org) }

func newBoard(out io.Writer) *board {
	return &board{
		out: out, colours: isTerminal(out), began: time.Now(), entries: make(map[string]*entry),
		streams: hdrhistogram.New(1, 600_000_000, 3), webhooks: hdrhistogram.New(1, 600_000_000, 3),
	}
}

// expect says that somebody receives events of these types from now on.
func (b *board) expect(who, org string, channels []string) {
	r := reader{who: who, org: org}
	for _, c := range channels {
		p, err := event.ParsePattern(c)
		if err != nil {
			panic(err) // they are all in this program
		}
		r.patterns = append(r.patterns, p)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.readers = append(b.readers, r)
}

// publishing opens an event's account, and gives the time that its latencies
// are counted from.
func (b *board) publishing(id, typ string, trade int, to []string) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &entry{typ: typ, trade: trade, to: to, began: time.Now()}
	for _, r := range b.readers {
		if e.includes(r.org) && r.patterns.Match(typ) {
			e.owed = append(e.owed, r.who)
		}
	}
	b.entries[id] = e
	return e.began
}

// published says that sluice answered: the event is durable.
func (b *board) published(id string, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[id]
	b.counts.published++
	b.print(b.text(e.began, "publisher", blue, e.typ, e.trade, took, "durable; for "+audienceText(e.to)))
	for _, text := range e.early {
		b.print(text)
	}
	e.early, e.acked = nil, true
}

// unpublished says that an event was refused: nobody is owed it.
func (b *board) unpublished(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, id)
}

// streamed says that an event came over a WebSocket.
func (b *board) streamed(who, org, id, typ string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, took := b.receive(who, org, id, typ)
	if e == nil {
		return
	}
	b.counts.streamed++
	b.streams.RecordValue(took.Microseconds())
	b.about(e, who, cyan, took, "")
}

// refused says that accounting answered a delivery with 500, on purpose.
func (b *board) refused(id, typ string, attempt int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.refused++
	e := b.entries[id]
	if e == nil {
		return
	}
	took := time.Since(e.began)
	b.webhooks.RecordValue(took.Microseconds())
	b.about(e, accountingName, yellow, took, fmt.Sprintf("attempt %d  ✓ verified; refused with 500 on purpose", attempt))
}

// delivered says that accounting took a delivery.
func (b *board) delivered(id, typ string, attempt int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, took := b.receive(accountingName, demoTaker, id, typ)
	if e == nil {
		return
	}
	b.counts.delivered++
	if attempt == 1 {
		b.webhooks.RecordValue(took.Microseconds())
	} else {
		b.counts.retried++
	}
	b.about(e, accountingName, green, took, fmt.Sprintf("attempt %d  ✓ verified", attempt))
}

// receive crosses an event off somebody's account; nil: it isn't one of ours.
func (b *board) receive(who, org, id, typ string) (*entry, time.Duration) {
	e := b.entries[id]
	if e == nil {
		b.counts.outside++
		b.line(who, magenta, typ, "published by somebody else: you?")
		return nil, 0
	}
	took := time.Since(e.began)
	if !e.includes(org) {
		b.fail(who, typ, "must not see an event that is for "+audienceText(e.to)+" only")
		return nil, 0
	}
	i := slices.Index(e.owed, who)
	if i < 0 {
		b.counts.repeated++
		b.about(e, who, faint, took, "came again")
		return nil, 0
	}
	e.owed = slices.Delete(e.owed, i, i+1)
	return e, took
}

// unverified says that a request came which can't be believed.
func (b *board) unverified(who, typ string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail(who, typ, "NOT VERIFIED: "+err.Error())
}

// notice prints something that isn't about one event.
func (b *board) notice(who, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line(who, yellow, "", text)
}

func (b *board) fail(who, typ, text string) {
	b.wrongs++
	if len(b.wrong) < 3 {
		b.wrong = append(b.wrong, fmt.Sprintf("%s, %s: %s", who, typ, text))
	}
	b.line(who, red, typ, "✗ "+text)
}

const accountingName = "accounting"

const boardTitles = "TIME          WHO         EVENT                TRADE  LATENCY"

// about prints a line about an event of ours.
func (b *board) about(e *entry, who, colour string, took time.Duration, note string) {
	text := b.text(time.Now(), who, colour, e.typ, e.trade, took, note)
	if !e.acked {
		e.early = append(e.early, text)
		return
	}
	b.print(text)
}

// line prints a line about anything else.
func (b *board) line(who, colour, typ, note string) {
	b.print(b.text(time.Now(), who, colour, typ, 0, 0, note))
}

func (b *board) text(at time.Time, who, colour, typ string, trade int, took time.Duration, note string) string {
	number, latency := "", ""
	if trade > 0 {
		number = fmt.Sprint(trade)
	}
	if took > 0 {
		latency = shortDuration(took)
	}
	return b.coloured(colour, strings.TrimRight(fmt.Sprintf("%s  %-10s  %-19s  %5s  %7s   %s",
		at.Format("15:04:05.000"), who, typ, number, latency, note), " "))
}

func (b *board) coloured(colour, text string) string {
	if !b.colours {
		return text
	}
	return colour + text + reset
}

func (b *board) print(text string) { fmt.Fprintln(b.out, text) }

// header says what runs and what the columns mean, and begins the summaries.
func (b *board) header(m *market, duration time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	end := "Ctrl-C ends it."
	if duration > 0 {
		end = fmt.Sprintf("It ends by itself after %v; Ctrl-C ends it now.", duration)
	}
	fmt.Fprintf(b.out, `sluice runs on %s, and around it:

  publisher   a trading platform; publishes every event once      LATENCY: until sluice said that it is durable
  solver α β  two solvers on WebSockets, subscribed to "*"        LATENCY: from publishing to receipt
  taker       on a WebSocket, subscribed to quote.*,settlement.*
  accounting  the taker's webhook receiver, for settlement.*,audit.recorded; verifies each request twice
              (TetraFi signature, Standard Webhooks) and refuses one in six, so that you see a retry

Join in from another terminal: listen as the taker, publish as the platform.

  %s
  %s

%s

`, m.base, wscatLine(m.base, m.taker, "*"), curlLine(m.base, m.platform, `{"type":"rfq.created","data":{"rfq":{"id":"rfq_mine"}},"audience":"*"}`), end)
	b.print(b.coloured(bold, boardTitles))
	b.began = time.Now()
	tick, done := time.NewTicker(10*time.Second), make(chan struct{})
	b.stop = sync.OnceFunc(func() { tick.Stop(); close(done) })
	go func() {
		for {
			select {
			case <-tick.C:
				b.mu.Lock()
				b.summary()
				b.mu.Unlock()
			case <-done:
				return
			}
		}
	}()
}

func (b *board) summary() {
	b.forget()
	c := &b.counts
	text := fmt.Sprintf("── %v: %d published · %d streamed (p50 %s, p99 %s) · %d delivered (p50 %s, p99 %s) · %d refused · %d retried",
		time.Since(b.began).Round(time.Second), c.published, c.streamed, quantile(b.streams, 50), quantile(b.streams, 99),
		c.delivered, quantile(b.webhooks, 50), quantile(b.webhooks, 99), c.refused, c.retried)
	if c.repeated > 0 {
		text += fmt.Sprintf(" · %d came again", c.repeated)
	}
	if c.outside > 0 {
		text += fmt.Sprintf(" · %d from outside", c.outside)
	}
	if b.wrongs > 0 {
		text += fmt.Sprintf(" · %d WRONG", b.wrongs)
	}
	b.print(b.coloured(bold, text))
}

// forget closes the accounts that are long settled.
func (b *board) forget() {
	maps.DeleteFunc(b.entries, func(_ string, e *entry) bool {
		return e.acked && len(e.owed) == 0 && time.Since(e.began) > time.Minute
	})
}

// settle waits for what is still owed, and prints the last summary.
func (b *board) settle(patience time.Duration) {
	b.stop()
	deadline, said := time.Now().Add(patience), false
	for {
		b.mu.Lock()
		owed, _ := b.owed()
		if owed > 0 && !said {
			said = true
			b.print(b.coloured(faint, fmt.Sprintf("── waiting for %d that are still on their way", owed)))
		}
		if owed == 0 || time.Now().After(deadline) {
			b.summary()
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

// owed counts what hasn't been received, and names one.
func (b *board) owed() (n int, one string) {
	for id, e := range b.entries {
		if n += len(e.owed); len(e.owed) > 0 {
			one = fmt.Sprintf("%s (%s) by %s", id, e.typ, strings.Join(e.owed, ", "))
		}
	}
	return n, one
}

// verdict is nil when everybody got what they should, and nothing else.
func (b *board) verdict() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	if b.wrongs > 0 {
		errs = append(errs, fmt.Errorf("%d things went wrong: %s", b.wrongs, strings.Join(b.wrong, "; ")))
	}
	if n, one := b.owed(); n > 0 {
		errs = append(errs, fmt.Errorf("%d were not received, among them %s", n, one))
	}
	if b.counts.published == 0 {
		errs = append(errs, errors.New("nothing was published"))
	}
	if len(errs) == 0 {
		b.print(b.coloured(green, "Everything that was published was received by everybody it was for, and by nobody else; every signature was right."))
	}
	return errors.Join(errs...)
}

func audienceText(to []string) string {
	if to[0] == "*" {
		return "everybody"
	}
	names := make([]string, len(to))
	for i, org := range to {
		names[i] = strings.NewReplacer("org_", "", "solver_alpha", "solver α", "solver_beta", "solver β").Replace(org)
	}
	return strings.Join(names, ", ")
}

func quantile(h *hdrhistogram.Histogram, q float64) string {
	if h.TotalCount() == 0 {
		return "-"
	}
	return shortDuration(time.Duration(h.ValueAtQuantile(q)) * time.Microsecond)
}

// shortDuration gives three digits or so: 0.84ms, 12.3ms, 5.01s.
func shortDuration(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2fms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%.1fms", d.Seconds()*1000)
	default:
		return fmt.Sprintf("%.2fs", d.Seconds())
	}
}
