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

	used     time.Duration // CPU time when it began
	usage    usage
	peak     float64
	together float64 // the same, with other processes of the run
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
	return &headroom{late: newMeter(), began: now, used: used, usage: usage{now, used}}
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

// usage is what this process had used when somebody looked last.
type usage struct {
	looked time.Time
	used   time.Duration
}

// look gives the share of the processors that was used since the last look, and how long
// ago that was.
func (u *usage) look() (share float64, took time.Duration) {
	now, used := time.Now(), cpuTime()
	took = now.Sub(u.looked)
	share = (used - u.used).Seconds() / took.Seconds() / float64(runtime.GOMAXPROCS(0))
	u.looked, u.used = now, used
	return share, took
}

// look gives the share of the processors that was used since the last look, with what
// others did meanwhile. Of less than half a second it is no peak.
func (h *headroom) look(others float64) float64 {
	share, took := h.usage.look()
	if took > time.Second/2 {
		h.peak, h.together = max(h.peak, share), max(h.together, share+others)
	}
	return share + others
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

// together is what the load took of several processes. Timers are those of the one whose
// were latest.
func together(all []Client, peak float64) Client {
	sum := Client{Processors: all[0].Processors, CPUPeak: peak, Limits: []string{}}
	for _, c := range all {
		sum.CPU, sum.CPUSeconds, sum.Held = sum.CPU+c.CPU, sum.CPUSeconds+c.CPUSeconds, sum.Held+c.Held
		if c.TimersLate.P99 >= sum.TimersLate.P99 {
			sum.TimersLate = c.TimersLate
		}
	}
	if sum.CPU > mostCPU {
		sum.Limits = append(sum.Limits, fmt.Sprintf("its processes together used %.0f%% of the %d processors", 100*sum.CPU, sum.Processors))
	}
	for i, c := range all {
		for _, limit := range c.Limits {
			sum.Limits = append(sum.Limits, fmt.Sprintf("process %d: %s", i+1, limit))
		}
	}
	return sum
}
