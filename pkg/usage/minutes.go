package usage

import (
	"sync"
	"time"
)

// Minutes counts calls in windows of a minute, by whatever they are counted by: an org,
// an address, an account. API requests of orgs it counts for as many processes as there
// are: each counts its own at once, and what the others' deltas say as soon as it lies in
// the log. A window begins with the first call in any of them; those that began apart,
// before they heard of one another, become the one that began first.
//
// The zero value counts for one process. All methods may be called from any number of
// goroutines.
type Minutes struct {
	Most int // windows at one time; who would need another waits. 0: any number

	mu      sync.Mutex
	windows map[string]*window
	swept   time.Time

	writer string           // the meter whose deltas have our own counts
	heard  map[string]heard // the newest delta of each other writer
}

type window struct {
	began time.Time
	count int // of all processes
	ours  int // among them, that no delta has yet
}

// heard is a number, and when it came.
type heard struct {
	number uint64
	at     time.Time
}

const windowLen = time.Minute

// Take counts a call where there may be so many in a minute, and gives how many more
// there may be until its window ends; below zero: this was one too many, and isn't
// counted.
func (m *Minutes) Take(id string, most int, now time.Time) (left int, ends time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	w := m.windows[id]
	if w == nil || now.Sub(w.began) >= windowLen {
		if w == nil && m.Most > 0 && len(m.windows) >= m.Most {
			return -1, m.swept.Add(windowLen)
		}
		w = &window{began: now}
		m.windows[id] = w
	}
	left, ends = most-w.count-1, w.began.Add(windowLen)
	if left >= 0 {
		w.count++
		w.ours++
	}
	return left, ends
}

// sweep forgets, once a minute, what is over.
func (m *Minutes) sweep(now time.Time) {
	if m.windows == nil {
		m.windows, m.heard = make(map[string]*window), make(map[string]heard)
	}
	if now.Sub(m.swept) < windowLen {
		return
	}
	m.swept = now
	for id, w := range m.windows {
		if now.Sub(w.began) >= windowLen {
			delete(m.windows, id)
		}
	}
	for writer, h := range m.heard {
		if now.Sub(h.at) >= 2*windowLen { // all windows that its deltas knew are over
			delete(m.heard, writer)
		}
	}
}

// minute is what a delta says of an org's window: when it began, in milliseconds, and how
// many requests more it has.
type minute [2]int64

// take gives what was counted here since the last take, of windows that aren't over.
func (m *Minutes) take(now time.Time) (all map[string]minute) {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for org, w := range m.windows {
		if w.ours == 0 || now.Sub(w.began) >= windowLen {
			continue
		}
		if all == nil {
			all = make(map[string]minute)
		}
		all[org] = minute{w.began.UnixMilli(), int64(w.ours)}
		w.ours = 0
	}
	return all
}

// hear adds what another process counted, unless it was heard before.
func (m *Minutes) hear(d *delta, now time.Time) {
	if m == nil || len(d.Minutes) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep(now)
	if d.Writer == m.writer || d.Number <= m.heard[d.Writer].number {
		return
	}
	m.heard[d.Writer] = heard{d.Number, now}
	for org, n := range d.Minutes {
		began := time.UnixMilli(n[0])
		if age := now.Sub(began); age >= windowLen || age < -windowLen {
			continue // it is over, or somebody's clock is wrong
		}
		w := m.windows[org]
		if w == nil || began.Sub(w.began) >= windowLen {
			m.windows[org] = &window{began: began, count: int(n[1])}
			continue
		}
		if began.Before(w.began) {
			w.began = began
		}
		w.count += int(n[1])
	}
}
