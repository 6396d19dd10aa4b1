package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A block of a table is checked when it is read, and nobody may read it for
// days. So a start reads some, and then everything is read, and once a day, slowly.
const (
	verifyEvery = 24 * time.Hour
	// verifyStep is read at a stretch, verifyRate in a second: 10 GiB in 5 minutes.
	verifyStep = 1 << 20
	verifyRate = 32 << 20
	// verifyTidy is from how many bytes on the process gives back what reading them
	// took. Each block was memory of its own; where nothing else goes on, nobody
	// would collect it for minutes, and the system would wait for longer.
	verifyTidy = 64 << 20
)

// verifier reads the log in the background until it closes.
func (l *Log) verifier() {
	rest := time.NewTimer(0)
	defer rest.Stop()
	// wait tells that the log is still open when the time is over.
	wait := func(d time.Duration) bool {
		rest.Reset(d)
		select {
		case <-l.closed:
			return false
		case <-rest.C:
			return true
		}
	}
	for {
		bytes, err := l.verify(func(bytes int) bool { return wait(time.Duration(bytes) * time.Second / verifyRate) })
		if err != nil && !l.isClosed() {
			l.logger.Error("log: parts of it can't be read", "dir", l.dir, "error", err)
		}
		if bytes > verifyTidy {
			debug.FreeOSMemory()
		}
		if !wait(verifyEvery) {
			return
		}
	}
}

// Verify reads every record that the log keeps, as fast as it can, and tells how
// many bytes there were, and what of them can't be read: the first place in each
// partition, with the file if it is known. The same is done in the background
// after a start and every day.
func (l *Log) Verify(ctx context.Context) (bytes int64, err error) {
	bytes, err = l.verify(func(int) bool { return ctx.Err() == nil })
	return bytes, errors.Join(ctx.Err(), err)
}

// Check is for a start: it reads the log as Verify does, for so long at most, what
// is kept for good first. An error says what is damaged, and that the log is better
// not used. What it didn't come to is read in the background.
func (l *Log) Check(within time.Duration) error {
	end := time.Now().Add(within)
	_, err := l.verify(func(int) bool { return time.Now().Before(end) })
	if err == nil {
		return nil
	}
	return l.damaged(err)
}

// inOrder lists the topics: what is kept for good, what is owed, what is asked for
// again.
func (l *Log) inOrder() []*topic {
	rank := func(t *topic) int {
		switch {
		case t.Retention == 0:
			return 0
		case !t.Yields:
			return 1
		}
		return 2
	}
	return slices.SortedFunc(maps.Values(l.topics), func(a, b *topic) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
}

// verify asks pause, with the bytes read since it asked last, whether to go on.
func (l *Log) verify(pause func(bytes int) bool) (total int64, err error) {
	var damages []error
	for _, t := range l.inOrder() {
		for _, p := range t.partitions {
			for from := p.start.Load(); from < p.end.Load(); {
				n, next, err := l.verifyStep(p, from)
				total += int64(n)
				if err != nil {
					if l.isClosed() {
						return total, errors.Join(append(damages, err)...)
					}
					damages = append(damages, err)
					break
				}
				from = next
				if !pause(n) {
					return total, errors.Join(damages...)
				}
			}
		}
	}
	return total, errors.Join(damages...)
}

// verifyStep reads about verifyStep bytes from the offset on, and tells how many
// there were and where to go on.
func (l *Log) verifyStep(p *partition, from int64) (bytes int, next int64, err error) {
	if err := l.enter(); err != nil {
		return 0, 0, err
	}
	defer l.leave()
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: p.key(from), UpperBound: p.key(p.end.Load())})
	if err != nil {
		return 0, 0, l.readError(p, err)
	}
	next = from
	for ok := it.First(); ok && bytes < verifyStep; ok = it.Next() {
		v, verr := it.ValueAndErr()
		if verr == nil {
			_, verr = decodeRecord(p, keyOffset(it.Key()), v)
		}
		if verr == nil && keyOffset(it.Key()) != next {
			verr = fmt.Errorf("offset %d: %w", next, errMissing)
		}
		if verr != nil {
			err = verr
			break
		}
		bytes += len(it.Key()) + len(v)
		next++
	}
	err = errors.Join(err, it.Error(), it.Close())
	if err == nil && next == from {
		err = fmt.Errorf("offset %d: %w", from, errMissing)
	}
	// What was trimmed meanwhile may be missing.
	if start := p.start.Load(); start > next {
		return bytes, start, nil
	}
	if err != nil {
		return bytes, next, l.readError(p, fmt.Errorf("from offset %d on: %w", next, err))
	}
	return bytes, next, nil
}

// What Pebble found nothing wrong with, and is wrong all the same.
var (
	errMissing    = errors.New("the record is missing")
	errUnreadable = errors.New("the record can't be read")
)

// note remembers damage, so that the process is not ready until somebody has
// seen to it.
func (l *Log) note(err error) {
	err = fmt.Errorf("%w; what is whole is still read and new records are taken: "+
		"stop, see to the disk, and restore the directory from a backup", err)
	l.damage.CompareAndSwap(nil, &err)
}
