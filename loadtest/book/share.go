package book

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"sluice/loadtest/ledger"
)

// Share has what there is of events lie in a file that other processes of a run have,
// too: 24 bytes for each, of memory that all of them share. It is called before anything
// is written down, by all with the same file, began and publishers. Who is first judges
// what is of no stream and no endpoint alone; everybody judges its own streams and
// endpoints. The memory is the process's until its end.
func (b *Book) Share(file *os.File, began time.Time, first bool) error {
	const each, place = int(unsafe.Sizeof(entry{})), int(unsafe.Sizeof(atomic.Int64{}))
	size := len(b.events) * (each + place)
	if first { // written, since memory of a file that finds no room when it is used ends the process
		if _, err := io.CopyN(file, zeros{}, int64(size)); err != nil {
			return fmt.Errorf("share the account, %d bytes, in TMPDIR: %w", size, err)
		}
	}
	memory, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("share the account, %d bytes: %w", size, err)
	}
	n := len(b.events)
	b.events = unsafe.Slice((*entry)(unsafe.Pointer(&memory[0])), n)
	b.places = unsafe.Slice((*atomic.Int64)(unsafe.Pointer(&memory[n*each])), n)
	b.began, b.second = began, !first
	return nil
}

type zeros struct{}

func (zeros) Read(to []byte) (int, error) {
	clear(to)
	return len(to), nil
}

// adopt puts into a class's log what only streams of other processes saw; c.mu is held.
// Who of its own went past that has missed it, as if another of the class had seen it
// here.
func (c *Class) adopt(r *ledger.Report) {
	b := c.book
	if b.places == nil {
		return
	}
	seen := make(set, (len(b.events)+63)/64)
	for _, p := range c.log {
		seen.add(p.number)
	}
	var others []place
	for number := range b.places {
		offset := b.places[number].Load() - 1
		if offset < 0 || seen.has(number) {
			continue
		}
		if yes, _ := b.owes(c.org, c.wants, number); yes {
			others = append(others, place{offset, number})
		}
	}
	byOffset := func(p, q place) int { return cmp.Compare(p.offset, q.offset) }
	slices.SortFunc(others, byOffset)
	mine := len(c.log)
	for i, p := range others {
		at, taken := slices.BinarySearchFunc(c.log[:mine], p, byOffset)
		other := place{}
		if taken {
			other = c.log[at]
		} else if taken = i > 0 && others[i-1].offset == p.offset; taken {
			other = others[i-1]
		}
		if taken {
			if !b.second {
				r.Add(b.violation(ledger.Twice, p.number, c.name, fmt.Sprintf("at offset %d others saw %d", p.offset, other.number)))
			}
			continue
		}
		c.log = append(c.log, p)
		for _, s := range c.streams {
			if s.begin <= p.offset && p.offset < s.next {
				s.add(span{from: p.offset, to: p.offset + 1})
			}
		}
	}
	slices.SortFunc(c.log, byOffset)
}

// elsewhere finds an event that another process saw at another place.
func (c *Class) elsewhere(r *ledger.Report, p place) {
	if c.book.places == nil {
		return
	}
	if at := c.book.places[p.number].Load() - 1; at != p.offset {
		r.Add(c.book.violation(ledger.Twice, p.number, c.name, fmt.Sprintf("it is at offset %d, and others saw it at %d", p.offset, at)))
	}
}
