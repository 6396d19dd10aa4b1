package loadtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// watch looks at what a process has in its hands, again and again.
type watch struct {
	t    *testing.T
	node *node
	stop chan struct{}
	over sync.WaitGroup
	seen []gauges
}

// watchEvery is the time between two looks.
const watchEvery = 5 * time.Second

// watch begins; tell ends it.
func (n *node) watch(t *testing.T) *watch {
	w := &watch{t: t, node: n, stop: make(chan struct{})}
	w.over.Go(func() {
		for {
			if g, err := n.gauges(); err == nil { // it may be frozen
				w.seen = append(w.seen, g)
			}
			select {
			case <-w.stop:
				return
			case <-time.After(watchEvery):
			}
		}
	})
	return w
}

// kept are what must not grow for ever, with the unit they are told in and how much
// more, beside a tenth, is no growth.
var kept = []struct {
	name, as    string
	unit, slack float64
}{
	{"process_resident_memory_bytes", "memory, MiB", mib, 4},
	{"go_memstats_heap_alloc_bytes", "heap, MiB", mib, 4},
	{"process_open_fds", "descriptors", 1, 4},
	{"go_goroutines", "goroutines", 1, 8},
}

// longEnough is how long a run must be for its first half to have filled what may be
// filled, such as the window of events.
const longEnough = 20 * time.Minute

// tell writes the least, the median and the most of each quarter. Of a long run the
// last quarter may not have more than the second.
func (w *watch) tell(out io.Writer, length time.Duration) {
	w.t.Helper()
	close(w.stop)
	w.over.Wait()
	if len(w.seen) < 8 {
		return
	}
	fmt.Fprintf(out, "%s, which was frozen at most, in each quarter: least, median, most\n", w.node.Name)
	for _, k := range kept {
		var medians [4]float64
		fmt.Fprintf(out, "  %-12s", k.as)
		for q := range medians {
			var values []float64
			for _, g := range w.seen[q*len(w.seen)/4 : (q+1)*len(w.seen)/4] {
				values = append(values, g[k.name]/k.unit)
			}
			slices.Sort(values)
			medians[q] = values[len(values)/2]
			fmt.Fprintf(out, "  %6.1f %6.1f %6.1f", values[0], medians[q], values[len(values)-1])
		}
		fmt.Fprintln(out)
		if length >= longEnough && medians[3] > 1.1*medians[1]+k.slack {
			w.t.Errorf("%s of %s grew from %.1f to %.1f", k.as, w.node.Name, medians[1], medians[3])
		}
	}
	last := w.seen[len(w.seen)-1]
	fmt.Fprintf(out, "  of streams:")
	for _, name := range slices.Sorted(maps.Keys(last)) {
		what, ok := strings.CutPrefix(name, "sluice_stream_")
		if ok && last[name] > 0 && !strings.Contains(name, "bucket{") && !strings.Contains(name, "position") {
			fmt.Fprintf(out, " %s %.0f", what, last[name])
		}
	}
	fmt.Fprintln(out)
}
