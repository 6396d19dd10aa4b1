package embedded

import (
	"math"
	"sync/atomic"
	"time"

	"sluice/pkg/eventlog"
)

// When room gets scarce, topics that yield are refused first, and all others
// when the reserve is gone, too. The limit and the disk decide, whichever is
// nearer:
//
//	limit  ├───────────── used ──────────────┤ 1/10: the others' ┤
//	disk   ├─────── used by whomever ────┤ floor: the others' ┤ floor: nobody's ┤
const (
	// spaceEvery is how often disk and limit are looked at; what is appended in
	// between is subtracted.
	spaceEvery = time.Second
	// The floor is a twentieth of the disk within these bounds. Pebble needs it for
	// what it rewrites, and can't go on without.
	floorLeast = 64 << 20
	floorMost  = 1 << 30
)

// space is how much more the log takes, for the two kinds of topics.
type space struct {
	limit    int64 // Config.MaxBytes
	watched  bool  // false: neither a limit nor a disk that tells
	yielding gate
	others   gate
}

// gate lets appends through while there is room.
type gate struct {
	room atomic.Int64 // bytes until the next look
	shut atomic.Bool  // written by the keeper
}

// set is told how much room there is now; a gate that was shut opens when there
// is a little more than none, so that it doesn't go to and fro. turned says that
// it opened or shut.
func (g *gate) set(room, little int64) (turned bool) {
	was := g.shut.Load()
	shut := room <= 0 || was && room < little
	g.room.Store(room)
	g.shut.Store(shut)
	return shut != was
}

// admit lets an append in, or says that the log is full for it.
func (l *Log) admit(yields bool, bytes int64) error {
	s := &l.space
	if !s.watched {
		return nil
	}
	g := &s.others
	if yields {
		g = &s.yielding
	}
	if g.shut.Load() || g.room.Load() < bytes {
		return eventlog.ErrFull
	}
	s.yielding.room.Add(-bytes)
	s.others.room.Add(-bytes)
	return nil
}

// Scarce implements eventlog.Keeper.
func (l *Log) Scarce() bool { return l.space.yielding.shut.Load() }

// Space is how full the log is. Zero is what isn't known, or no limit.
type Space struct {
	Used  int64 // bytes of the log on disk; what Pebble is about to give back doesn't count
	Limit int64 // Config.MaxBytes
	Free  int64 // bytes that the disk has left
	// YieldingRefused says that topics that yield are refused, AllRefused that every
	// append is.
	YieldingRefused, AllRefused bool

	floor   int64 // of Free
	trouble bool  // tables can't be written: new events would only wait
}

// Space tells how full the log is.
func (l *Log) Space() (Space, error) {
	if err := l.enter(); err != nil {
		return Space{}, err
	}
	defer l.leave()
	return l.look(), nil
}

// look measures; the caller has entered, or is Open.
func (l *Log) look() Space {
	m := l.db.Metrics()
	s := Space{
		Used: int64(m.WAL.PhysicalSize + m.Table.Local.LiveSize + m.BlobFiles.Local.LiveSize), Limit: l.space.limit,
		trouble:         l.trouble.now() != nil,
		YieldingRefused: l.space.yielding.shut.Load(), AllRefused: l.space.others.shut.Load(),
	}
	if disk, err := l.fs.GetDiskUsage(l.dir); err == nil {
		s.Free = int64(min(disk.AvailBytes, math.MaxInt64))
		s.floor = int64(min(max(disk.TotalBytes/20, floorLeast), floorMost))
	}
	return s
}

// room tells how many bytes fit before one kind of topic is refused.
func (s Space) room(reserves int64) int64 {
	room := int64(math.MaxInt64)
	if s.trouble && reserves > 0 {
		return 0
	}
	if s.Limit > 0 {
		room = s.Limit - reserves*(s.Limit/10) - s.Used
	}
	if s.floor > 0 {
		room = min(room, s.Free-(1+reserves)*s.floor)
	}
	return room
}

// little is how much room must come back before what was refused is taken again.
func (s Space) little() int64 {
	little := int64(math.MaxInt64)
	if s.Limit > 0 {
		little = s.Limit / 100
	}
	if s.floor > 0 {
		little = min(little, s.floor/8)
	}
	return little
}

// measure sets the gates; the keeper and Open call it. It tells when one opens
// or shuts.
func (l *Log) measure() {
	if l.enter() != nil {
		return
	}
	defer l.leave()
	now := l.look()
	facts := []any{"dir", l.dir, "bytes", now.Used, "limit", now.Limit, "disk free", now.Free}
	if l.space.yielding.set(now.room(1), now.little()) {
		if l.space.yielding.shut.Load() {
			l.logger.Warn("log: little room is left, new events are refused until there is more", facts...)
			// Ranges that were only marked as deleted give their disk back once they are
			// flushed, and with few appends nothing else would flush them.
			if l.roomToWork() == nil {
				_, _ = l.db.AsyncFlush()
			}
		} else {
			l.logger.Info("log: there is room again, new events are taken", facts...)
		}
	}
	if l.space.others.set(now.room(0), now.little()) {
		if l.space.others.shut.Load() {
			l.logger.Error("log: no room is left, everything is refused until there is more", facts...)
		} else {
			l.logger.Info("log: there is room again for deliveries and control", facts...)
		}
	}
}
