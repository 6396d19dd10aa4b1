package main

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// progress tells a person how far a file is. It is used by one goroutine.
type progress struct {
	to       io.Writer
	terminal bool  // else it says what went wrong, and nothing else
	size     int64 // of the file; 0: not known

	began  time.Time
	drawn  time.Time
	events int
	bytes  int64 // of the file, read
}

// drawEvery is how often the line is drawn.
const drawEvery = 200 * time.Millisecond

func (p *progress) passed(bytes int) {
	if p.began.IsZero() {
		p.began = time.Now()
	}
	p.bytes += int64(bytes)
}

func (p *progress) published(events int) {
	p.events += events
	if now := time.Now(); p.terminal && now.Sub(p.drawn) >= drawEvery {
		p.drawn = now
		fmt.Fprintf(p.to, "\r\x1b[K%s", p.line(now.Sub(p.began)))
	}
}

// say prints a line, above that which is drawn.
func (p *progress) say(text string) {
	if p.terminal {
		fmt.Fprint(p.to, "\r\x1b[K")
		p.drawn = time.Time{}
	}
	fmt.Fprintf(p.to, "sluice: %s\n", text)
}

// done says on a terminal what came of it.
func (p *progress) done() {
	if p.terminal {
		p.passed(0)
		took := time.Since(p.began)
		fmt.Fprintf(p.to, "\r\x1b[K%s events published in %v, %s/s\n", thousands(int64(p.events)), took.Round(10*time.Millisecond), thousands(perSecond(int64(p.events), took)))
	}
}

// line is what is drawn: count, bytes, rate, and how long it will take.
func (p *progress) line(took time.Duration) string {
	text := thousands(int64(p.events)) + " events · " + megabytes(p.bytes)
	if p.size > 0 {
		text += " of " + megabytes(p.size)
	}
	text += " · " + thousands(perSecond(int64(p.events), took)) + "/s"
	if speed := perSecond(p.bytes, took); p.size > p.bytes && speed > 0 {
		left := time.Duration(float64(p.size-p.bytes) / float64(speed) * float64(time.Second))
		text += " · " + max(left, time.Second).Round(time.Second).String() + " left"
	}
	return text
}

func perSecond(n int64, took time.Duration) int64 {
	return int64(float64(n) / max(took, time.Millisecond).Seconds())
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB" }

// thousands writes 1234567 as 1,234,567.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
