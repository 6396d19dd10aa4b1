package drive

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// headroom measures whether this process could keep up with what it was to do: how
// much of its processors it used, and by how much it woke up too late.
type headroom struct {
	late  *meter       // of timers
	held  atomic.Int64 // requests that began late since all that may be under way were
	began time.Time

	used   time.Duration // CPU time when it began
	looked time.Time
	last   time.Duration
	peak   float64
}

// When a process is said to have been the limit: it used more than this of its
// processors, or one timer in a hundred was later than that.
const (
	mostCPU  = 0.8
	mostLate = 10 * time.Millisecond
	tick     = 10 * time.Millisecond
)

func newHeadroom() *headroom {
	now, used := time.Now(), cpuTime()
	return &headroom{late: newMeter(), began: now, used: used, looked: now, last: used}
}

// run times timers until ctx ends.
func (h *headroom) run(ctx context.Context) {
	for ctx.Err() == nil {
		due := time.Now().Add(tick)
		time.Sleep(tick)
		h.late.timed(1, time.Since(due))
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// look gives the share of the processors that was used since the last look. Of less
// than half a second it is no peak.
func (h *headroom) look() float64 {
	now, used := time.Now(), cpuTime()
	took := now.Sub(h.looked)
	share := (used - h.last).Seconds() / took.Seconds() / float64(runtime.GOMAXPROCS(0))
	if took > time.Second/2 {
		h.peak = max(h.peak, share)
	}
	h.looked, h.last = now, used
	return share
}

// Client is what the load took of the process that made it.
type Client struct {
	Processors int       `json:"processors"`
	CPU        float64   `json:"cpu"`        // share of them, over the run
	CPUPeak    float64   `json:"cpuPeak"`    // in one second
	CPUSeconds float64   `json:"cpuSeconds"` //
	TimersLate Quantiles `json:"timersLateMs"`
	Held       int64     `json:"heldRequests"` // that began late, since as many as may be were under way
	Limits     []string  `json:"limits"`       // why the client, and not the server, was the limit; empty: it wasn't
}

func (h *headroom) client() Client {
	used := (cpuTime() - h.used).Seconds()
	c := Client{Processors: runtime.GOMAXPROCS(0), CPUPeak: h.peak, CPUSeconds: used, Held: h.held.Load(), Limits: []string{}}
	c.CPU = used / time.Since(h.began).Seconds() / float64(c.Processors)
	_, c.TimersLate = h.late.total()
	if c.CPU > mostCPU {
		c.Limits = append(c.Limits, fmt.Sprintf("it used %.0f%% of its %d processors", 100*c.CPU, c.Processors))
	}
	if late := time.Duration(c.TimersLate.P99 * float64(time.Millisecond)); late > mostLate {
		c.Limits = append(c.Limits, fmt.Sprintf("one in a hundred of its timers was %v late, or later", late.Round(100*time.Microsecond)))
	}
	return c
}
