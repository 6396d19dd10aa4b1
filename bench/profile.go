package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/pprof/profile"
)

// slice is for how long a process is asked for a profile at a time. One that is killed
// keeps what it has of that to itself, and one that is to stop is waited for.
const slice = time.Second

// profiles are those of the product in all rounds of one row.
type profiles struct {
	dir, row string
	mu       sync.Mutex
	cpu      *profile.Profile // of all its processes together; nil: none yet
	heap     []byte           // of the one that was stopped last
	watching sync.WaitGroup
}

// watch profiles what serves that address, slice by slice, until end is called, which
// then takes the heap, or until it answers no more.
func (p *profiles) watch(ops string) (end func()) {
	enough := make(chan struct{})
	seen := make(chan struct{})
	p.watching.Go(func() {
		defer close(seen)
		for {
			text, err := get("http://" + ops + "/debug/pprof/profile?seconds=" + fmt.Sprint(int(slice.Seconds())))
			if err != nil || p.add(text) != nil {
				return
			}
			select {
			case <-enough:
				return
			default:
			}
		}
	})
	return sync.OnceFunc(func() {
		close(enough)
		<-seen
		if text, err := get("http://" + ops + "/debug/pprof/heap"); err == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.heap = text
		}
	})
}

func (p *profiles) add(text []byte) error {
	now, err := profile.ParseData(text)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []*profile.Profile{now}
	if p.cpu != nil {
		all = append(all, p.cpu)
	}
	merged, err := profile.Merge(all)
	if err == nil {
		p.cpu = merged
	}
	return err
}

// write writes what there is, once all are stopped.
func (p *profiles) write() error {
	p.watching.Wait()
	if p.cpu == nil || p.heap == nil {
		return fmt.Errorf("profile %s: no process of it could be asked", p.row)
	}
	var cpu bytes.Buffer
	if err := p.cpu.Write(&cpu); err != nil {
		return fmt.Errorf("profile %s: %w", p.row, err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(p.dir, p.row+".cpu.pprof"), cpu.Bytes(), 0o644),
		os.WriteFile(filepath.Join(p.dir, p.row+".heap.pprof"), p.heap, 0o644))
}

// get reads what is at a URL; anything but 200 is an error.
func get(url string) ([]byte, error) {
	r, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: %s", url, r.Status)
	}
	return io.ReadAll(r.Body)
}
