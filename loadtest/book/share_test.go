package book

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/loadtest/ledger"
)

// shared gives the books of two processes that share a run, as twoOrgs is one.
func shared(t *testing.T, n int) (first, second *Book) {
	t.Helper()
	began := time.Now()
	path := filepath.Join(t.TempDir(), "events")
	for i, b := range []**Book{&first, &second} {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // each has its own memory of it
		if err != nil {
			t.Fatal(err)
		}
		*b = twoOrgs(n)
		if err := (*b).Share(file, began, i == 0); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	return first, second
}

// TestShared does one thing wrong at a time where two processes see it, of which one
// publishes.
func TestShared(t *testing.T) {
	for _, c := range []struct {
		name string
		want string // counts of both
		do   func(a, b *Book)
	}{
		{"all comes", "map[] map[]", func(a, b *Book) {
			b.sent(0, 2, 4)
			for _, of := range []*Book{a, b} {
				of.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2, 4)
			}
		}},
		{"one misses the middle", "map[hole:1] map[]", func(a, b *Book) {
			b.sent(0, 2, 4)
			a.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 4)
			b.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2, 4)
		}},
		{"one misses the end", "map[] map[hole:1]", func(a, b *Book) {
			b.sent(0, 2, 4)
			a.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2, 4)
			b.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2)
		}},
		{"one misses many, and is told", "map[] map[]", func(a, b *Book) {
			b.sent(0, 2, 4, 6, 8)
			s := a.Class("org 1", 0, both).Begin("s", 0, true)
			s.saw(0)
			s.Gap(3, false)
			s.saw(8)
			b.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 2, 4, 6, 8)
		}},
		{"nobody sees one", "map[lost:1] map[lost:1]", func(a, b *Book) {
			a.sent(0, 2, 4)
			for _, of := range []*Book{a, b} {
				of.Class("org 1", 0, both).Begin("s", 0, true).saw(0, 4)
			}
		}},
		{"one that the other published never arrives", "map[] map[lost:1]", func(a, b *Book) {
			a.sent(0, 2)
			b.Endpoint("e", 0, both, false).tried(0, 1, true)
		}},
		{"it is another org's", "map[] map[foreign:1]", func(a, b *Book) {
			a.sent(1)
			b.Endpoint("e", 0, both, false).tried(1, 1, true)
		}},
		{"it was never sent", "map[] map[invented:1]", func(a, b *Book) {
			a.sent(0)
			e := b.Endpoint("e", 0, both, false)
			e.tried(0, 1, true)
			e.tried(2, 1, true)
		}},
		{"they see it at two places", "map[] map[twice:1]", func(a, b *Book) {
			a.sent(0)
			a.Class("org 1", 0, both).Begin("s", 0, true).Frame(0, 10)
			b.Class("org 1", 0, both).Begin("s", 0, true).Frame(0, 12)
		}},
		{"they see two at one place", "map[lost:1 twice:1] map[lost:1]", func(a, b *Book) {
			a.sent(0, 2)
			a.Class("org 1", 0, both).Begin("s", 0, true).Frame(0, 10)
			b.Class("org 1", 0, both).Begin("s", 0, true).Frame(2, 10)
		}},
		{"it lies behind the next of its key, and only one of them has streams", "map[reordered:1] map[]", func(a, b *Book) {
			a.sent(0, 4)
			a.Class("org 1", 0, both)
			s := b.Class("org 1", 0, both).Begin("s", 0, true)
			s.Frame(4, 10)
			s.Frame(0, 11)
		}},
	} {
		a, b := shared(t, 100)
		c.do(a, b)
		for range 2 { // a look meanwhile changes nothing
			first, second := a.Check(), b.Check()
			if got := fmt.Sprint(first.Count, second.Count); got != c.want {
				t.Errorf("%s: %s, not %s: %v %v", c.name, got, c.want, first.Violations, second.Violations)
			}
			sum := *first
			sum.Count = map[ledger.Kind]int{}
			for kind, n := range first.Count {
				sum.Count[kind] = n
			}
			if sum.Join(second); first.OK() && second.OK() != sum.OK() || sum.Published != first.Published || sum.Frames != first.Frames+second.Frames {
				t.Errorf("%s: together %s", c.name, sum.String())
			}
		}
	}
}
