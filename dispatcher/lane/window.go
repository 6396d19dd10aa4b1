package lane

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// maxWindow bounds the offsets that a window spans. A partition whose head is
// unfinished for that long isn't read on until the head moves.
const maxWindow = 1 << 20

// window knows which records of a partition are finished: all below next, and
// those above it whose bit is set.
//
//	finished       │next  finished above it     │
//	███████████████│░█░░██░███████████░█░░░░░░░░│░░░░░░
//	                └── words, 64 offsets each ─┘
type window struct {
	next  int64
	base  int64 // offset of the first bit; a multiple of 64, at most next
	words []uint64
	above int // bits set at or above next
}

func newWindow(next int64) window { return window{next: next, base: next &^ 63} }

// done reports whether the record at the offset is finished.
func (w *window) done(off int64) bool {
	if off < w.next {
		return true
	}
	i := (off - w.base) >> 6
	return i < int64(len(w.words)) && w.words[i]&(1<<uint(off&63)) != 0
}

// full reports whether the offset is too far ahead to be begun.
func (w *window) full(off int64) bool { return off-w.next >= maxWindow }

// finish marks the record at the offset, and reports whether it wasn't before.
func (w *window) finish(off int64) bool {
	if w.done(off) {
		return false
	}
	if off == w.next && w.above == 0 { // the common case: nothing waits above
		w.next++
		w.slide()
		return true
	}
	i := int((off - w.base) >> 6)
	for len(w.words) <= i {
		w.words = append(w.words, 0)
	}
	w.words[i] |= 1 << uint(off&63)
	w.above++
	if off == w.next {
		w.advance()
	}
	return true
}

// advance moves next over the run of bits that begins at it.
func (w *window) advance() {
	for w.above > 0 {
		i := (w.next - w.base) >> 6
		if i >= int64(len(w.words)) {
			break
		}
		from := uint(w.next & 63)
		run := min(bits.TrailingZeros64(^(w.words[i] >> from)), 64-int(from))
		if run == 0 {
			break
		}
		w.next += int64(run)
		w.above -= run
		if int(from)+run < 64 {
			break
		}
	}
	w.slide()
}

// slide gives up the words that lie wholly below next.
func (w *window) slide() {
	gone := int((w.next - w.base) >> 6)
	switch {
	case gone == 0:
	case gone >= len(w.words):
		w.words = w.words[:0]
		w.base = w.next &^ 63
	case gone*2 >= len(w.words) || gone >= 1024:
		w.words = append(w.words[:0], w.words[gone:]...)
		w.base += int64(gone) << 6
	}
}

// skip marks all below the offset: a hole in the partition, or nothing to do.
func (w *window) skip(from, to int64) {
	for off := max(from, w.next); off < to; off++ {
		w.finish(off)
	}
}

// append adds the window's bytes: next, and the bits above as lengths of runs
// that are in turn unfinished and finished, ended by the last finished one.
func (w *window) append(dst []byte) []byte {
	dst = binary.AppendVarint(dst, w.next)
	var runs []uint64
	at, left := w.next, w.above
	for left > 0 {
		begin := at
		for !w.done(at) {
			at++
		}
		runs = append(runs, uint64(at-begin))
		begin = at
		for left > 0 && w.done(at) {
			at++
			left--
		}
		runs = append(runs, uint64(at-begin))
	}
	dst = binary.AppendUvarint(dst, uint64(len(runs)))
	for _, r := range runs {
		dst = binary.AppendUvarint(dst, r)
	}
	return dst
}

var errWindow = errors.New("window is damaged")

// readWindow reads what append wrote.
func readWindow(r *decoder) (window, error) {
	w := newWindow(r.varint())
	n := r.uvarint()
	at := w.next
	for i := range n {
		run := r.uvarint()
		if r.err != nil || run > maxWindow*2 || at-w.next > maxWindow*2 {
			return w, errWindow
		}
		if i%2 == 1 {
			w.skip(at, at+int64(run))
		}
		at += int64(run)
	}
	return w, r.err
}
