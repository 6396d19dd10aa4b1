package lane

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// What is held is fed, given back, finished and read again in any order that a
// lane may choose: each record is finished once, in a restart too.
func TestHeldBooks(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var h held
		var all []int64          // ours, in the log
		ended := map[int64]int{} // how often each was
		var queue []int64        // fed, and not under way
		var under []int64
		next := int64(0)
		finish := func(off int64) {
			ended[off]++
			h.finish(off)
		}
		step := func(adding bool) {
			switch k := rnd.IntN(11); {
			case k < 3 && adding:
				next += 1 + rnd.Int64N(3)
				all = append(all, next)
				h.add(next)
			case k < 6: // a sweep
				if !h.unfed() {
					return
				}
				from := h.fed
				for _, off := range all {
					if off < from || off > h.last || rnd.IntN(5) == 0 && off > from {
						if off >= from {
							from = -1 // had to leave one out
							break
						}
						continue
					}
					if h.count == 0 || !h.feed(off) {
						continue
					}
					if rnd.IntN(4) == 0 {
						finish(off) // missed
					} else {
						queue = append(queue, off)
					}
				}
				if from >= 0 {
					h.pass(from, next+2)
				}
			case k < 7 && len(queue) > 0:
				under = append(under, queue[0])
				queue = queue[1:]
			case k < 9 && len(under) > 0:
				i := rnd.IntN(len(under))
				finish(under[i])
				under = slices.Delete(under, i, i+1)
			case k == 9: // shed
				for i, off := range queue {
					if !h.giveBack(off, slices.Sorted(slices.Values(queue[i:]))) {
						under = append(under, off) // it is appended again
					}
				}
				queue = nil
			case k == 10 && len(under) > 0: // it couldn't be made
				i := rnd.IntN(len(under))
				queue = append([]int64{under[i]}, queue...)
				under = slices.Delete(under, i, i+1)
			}
		}
		for range 200 {
			step(true)
		}
		for range 20_000 {
			if len(ended) == len(all) {
				break
			}
			step(false)
		}
		for _, off := range all {
			if ended[off] != 1 {
				t.Fatalf("seed %d: record %d of %v ended %d times; %s", seed, off, all, ended[off], fmt.Sprintf("%+v", h))
			}
		}
		if h.count != 0 || h.unfed() {
			t.Fatalf("seed %d: all ended, and it says %+v", seed, h)
		}
	}
}

// What couldn't be made comes back in any order. However it is given back, what lies
// behind it and is under way isn't.
func TestGiveBackInAnyOrder(t *testing.T) {
	for _, queue := range [][]int64{{2, 1, 0}, {0, 2, 1}, {1, 2, 4}} {
		var h held
		for off := range int64(5) {
			h.add(off)
		}
		for off := range int64(5) {
			h.feed(off)
		}
		if h.giveBack(queue[0], slices.Sorted(slices.Values(queue))) || h.fed != 5 {
			t.Errorf("%v wait, and %d was given back with all behind it", queue, h.fed)
		}
	}
}
