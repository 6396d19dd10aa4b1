package loadtest

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// gauges are what a process shows on /metrics, by name and labels as they stand there.
type gauges map[string]float64

// scraper leaves no connection behind that would count among a process's.
var scraper = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// gauges asks the process.
func (n *node) gauges() (gauges, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+n.Ops+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := scraper.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	g := make(gauges)
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, ok := cutLast(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if g[name], err = strconv.ParseFloat(value, 64); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return g, lines.Err()
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// sum adds up all of a name, whatever their labels.
func (g gauges) sum(name string) (sum float64) {
	for k, v := range g {
		if k == name || strings.HasPrefix(k, name+"{") {
			sum += v
		}
	}
	return sum
}

// sockets counts those that the process has; those that listen are among them.
func (n *node) sockets() (count int) {
	dir := fmt.Sprintf("/proc/%d/fd/", n.PID())
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if to, err := os.Readlink(dir + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			count++
		}
	}
	return count
}
