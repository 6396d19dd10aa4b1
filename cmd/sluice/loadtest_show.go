package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/loadtest/drive"
)

// loadProgress shows what a run does while it runs: where somebody looks on, one line
// that is drawn anew each second; else a line now and then. Its methods may be called
// concurrently.
type loadProgress struct {
	to       io.Writer
	terminal bool
	unread   func() // is called when nothing can be shown any more

	mu      sync.Mutex
	drawn   bool
	seconds int
}

// plainEvery is how many seconds lie between lines where nobody looks on.
const plainEvery = 5

// second shows what came in a second.
func (p *loadProgress) second(s drive.Second) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seconds++
	switch line := loadLine(s); {
	case p.terminal:
		p.print("\r\x1b[K" + line)
		p.drawn = true
	case p.seconds%plainEvery == 0:
		p.print(line + "\n")
	}
}

func (p *loadProgress) print(text string) {
	if _, err := io.WriteString(p.to, text); err != nil {
		p.unread()
	}
}

// end leaves the line that is drawn.
func (p *loadProgress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave()
}

func (p *loadProgress) leave() {
	if p.drawn {
		p.print("\n")
		p.drawn = false
	}
}

// say prints a line, below that which is drawn.
func (p *loadProgress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leave()
	p.print("sluice: " + text + "\n")
}

func loadLine(s drive.Second) string {
	text := fmt.Sprintf("%4.0fs", s.At)
	for _, way := range []struct {
		name string
		lap  *drive.Lap
	}{{"published", s.Published}, {"streamed", s.Streamed}, {"delivered", s.Delivered}} {
		if l := way.lap; l != nil {
			text += fmt.Sprintf("  %s %s/s", way.name, thousands(int64(l.Rate+0.5)))
			if l.Max > 0 {
				text += fmt.Sprintf(" p50 %s p99 %s", millis(l.P50), millis(l.P99))
			}
		}
	}
	if s.Retries > 0 {
		text += fmt.Sprintf("  %s sent again", thousands(s.Retries))
	}
	return text + fmt.Sprintf("  client %.0f%% CPU", 100*s.CPU)
}

// loadTables gives the figures as tables for people, the first row of each being its
// titles.
func loadTables(r *drive.Result) (tables [][][]string) {
	times := []string{"P50", "P90", "P99", "P99.9", "MAX"}
	of := func(q drive.Quantiles) []string {
		return []string{millis(q.P50), millis(q.P90), millis(q.P99), millis(q.P999), millis(q.Max)}
	}
	table := [][]string{append([]string{"PUBLISHER", "WANTED/S", "RATE/S", "ACKNOWLEDGED", "SENT AGAIN", "UNANSWERED", "UNSENT"}, times...)}
	for _, p := range r.Publishers {
		table = append(table, append([]string{p.Name, thousands(int64(p.Wanted)), thousands(int64(p.Rate + 0.5)), thousands(p.Acknowledged), thousands(p.Retries),
			thousands(p.Unanswered), thousands(int64(p.Due) - p.Sent)}, of(p.Times)...))
	}
	tables = append(tables, table)
	if len(r.Streams) > 0 {
		table = [][]string{append([]string{"STREAMS", "KIND", "CLIENTS", "CONNECTED", "EVENTS", "RATE/S"}, times...)}
		for _, s := range r.Streams {
			table = append(table, append([]string{s.Name, s.Kind, thousands(int64(s.Connections)), thousands(s.Connects), thousands(s.Events), thousands(int64(s.Rate + 0.5))}, of(s.Times)...))
		}
		tables = append(tables, table)
	}
	if len(r.Receivers) > 0 {
		table = [][]string{append([]string{"RECEIVERS", "ENDPOINTS", "REQUESTS", "RATE/S", "REFUSED", "REPEATS", "STILL OWED"}, times...)}
		for _, e := range r.Receivers {
			table = append(table, append([]string{e.Name, thousands(int64(e.Endpoints)), thousands(e.Requests), thousands(int64(e.Rate + 0.5)), thousands(int64(e.Refused)),
				thousands(int64(e.Repeats)), thousands(int64(e.Owed))}, of(e.Times)...))
		}
		tables = append(tables, table)
	}
	if len(r.Servers) > 0 {
		table = [][]string{{"PROCESS", "PROCESSORS", "AT MOST", "MEMORY AT MOST", "WEBHOOKS LATE BY", "UNANSWERED"}}
		for _, s := range r.Servers {
			sum := s.Sum()
			table = append(table, []string{s.Name(), fmt.Sprintf("%.2f", sum.CPU), fmt.Sprintf("%.2f", sum.CPUPeak), fmt.Sprintf("%.0f MB", sum.RSS), millis(sum.Webhooks) + " at most",
				thousands(int64(s.Unanswered))})
		}
		tables = append(tables, table)
	}
	if sums := r.FaultSums(); len(sums) > 0 {
		table = [][]string{{"FAULT", "OF", "TIMES", "MEDIAN", "LONGEST"}}
		for _, f := range sums {
			table = append(table, []string{f.What, f.Whom, thousands(int64(f.Times)), millis(1000 * f.Median), millis(1000 * f.Longest)})
		}
		tables = append(tables, table)
	}
	return tables
}

// loadWords says in lines what the tables don't: the client's part, what happened beside,
// and the verdict.
func loadWords(r *drive.Result) string {
	var b strings.Builder
	c := &r.Client
	fmt.Fprintf(&b, "client    %.0f%% of %d processors, %.0f%% at most; timers late by p50 %s, p99 %s, %s at most\n", 100*c.CPU, c.Processors, 100*c.CPUPeak,
		millis(c.TimersLate.P50), millis(c.TimersLate.P99), millis(c.TimersLate.Max))
	for i, p := range r.Clients {
		fmt.Fprintf(&b, "          process %d of them: %.0f%%, %.0f%% at most; timers late by p50 %s, p99 %s, %s at most\n", i+1, 100*p.CPU, 100*p.CPUPeak,
			millis(p.TimersLate.P50), millis(p.TimersLate.P99), millis(p.TimersLate.Max))
	}
	for _, limit := range c.Limits {
		fmt.Fprintf(&b, "          THE CLIENT WAS THE LIMIT: %s. The times are its own, too: give it processors of its own, or share the load among several\n", limit)
	}
	if c.Held > 0 {
		fmt.Fprintf(&b, "held      %s requests began late since as many as may be were under way (inFlight): their times count from when they were due\n", thousands(c.Held))
	}
	for _, s := range r.Streams {
		for _, text := range slices.Sorted(maps.Keys(s.Endings)) {
			fmt.Fprintf(&b, "noted     %d× %s: %s\n", s.Endings[text], s.Name, text)
		}
	}
	for _, text := range slices.Sorted(maps.Keys(r.Notes)) {
		fmt.Fprintf(&b, "noted     %d× %s\n", r.Notes[text], text)
	}
	v := &r.Verdict
	count := func(n int) string { return thousands(int64(n)) }
	fmt.Fprintf(&b, "account   %s events acknowledged of %s sent", count(v.Acknowledged), count(v.Sent))
	if len(r.Streams) > 0 {
		fmt.Fprintf(&b, "; %s streamed, %s declared missing", count(v.Streamed), count(v.Declared))
	}
	if len(r.Receivers) > 0 {
		fmt.Fprintf(&b, "; %s of %s deliveries arrived, %s are still owed, %s came again", count(v.Delivered), count(v.Deliveries), count(v.StillOwed), count(v.Repeats))
	}
	if v.NotKnown > 0 {
		fmt.Fprintf(&b, ", %s not known", count(v.NotKnown))
	}
	b.WriteString("\n")
	fmt.Fprintf(&b, "verdict   %s", v)
	return b.String()
}

// millis writes milliseconds with three digits that count.
func millis(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	unit := time.Microsecond
	for _, u := range []time.Duration{10 * time.Microsecond, 100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		if d >= 100*u {
			unit = u
		}
	}
	return d.Round(unit).String()
}
