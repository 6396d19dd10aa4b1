package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// linesFile writes a file of n events, one a line.
func linesFile(t *testing.T, n int, change map[int]string) string {
	t.Helper()
	var b bytes.Buffer
	for i := 1; i <= n; i++ {
		if text, ok := change[i]; ok {
			b.WriteString(text)
		} else {
			fmt.Fprintf(&b, `{"type":"rfq.created","data":{"n":%d}}`, i)
		}
		b.WriteByte('\n')
	}
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// listed counts the numbers that the events of the key's org have.
func listed(t *testing.T, p *process) map[int]int {
	t.Helper()
	got := make(map[int]int)
	for cursor, more := "", true; more; {
		var page struct {
			Data       []struct{ N int }
			NextCursor string
			HasMore    bool
		}
		if err := p.call(t.Context(), "GET", "/v1/events?limit=500&cursor="+cursor, "", nil, 200, &page); err != nil {
			t.Fatal(err)
		}
		for _, ev := range page.Data {
			got[ev.N]++
		}
		cursor, more = page.NextCursor, page.HasMore
	}
	return got
}

func wantEach(t *testing.T, got map[int]int, n int, but ...int) {
	t.Helper()
	missing := make(map[int]bool)
	for _, i := range but {
		missing[i] = true
	}
	for i := 1; i <= n; i++ {
		if want := 1; got[i] != want && !missing[i] || missing[i] && got[i] != 0 {
			t.Errorf("event %d came %d times", i, got[i])
		}
	}
}

// A bad line is named, and costs nobody else anything; mended, it is all that
// comes.
func TestPublishBadLines(t *testing.T) {
	t.Parallel()
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data")})
	bad := map[int]string{
		3:    `{"type":"rfq.created","data":`,
		7:    `{"type":"rfq.created","type":"rfq.closed","data":{}}`,
		1500: `{"type":"Rfq","data":{}}`,
		2000: `{"type":"rfq.created","data":{"x":"` + strings.Repeat("x", batchBytes) + `"}}`,
		2100: `{"type":"rfq.created","audiance":"*","data":{"n":2100}}`,
	}
	path := linesFile(t, 2500, bad)
	publish := func(args ...string) (string, string, int) {
		return sluice(t, []string{"SLUICE_URL=http://" + p.address, "SLUICE_KEY=" + p.key}, append([]string{"publish"}, args...)...)
	}
	out, said, code := publish(path)
	if n := len(strings.Fields(out)); n != 2495 || code != 1 {
		t.Errorf("%d ids, exit code %d", n, code)
	}
	for _, want := range []string{"line 3: ", "line 7: ", "line 1500: type: must be", "line 2000: it has more", "line 2100: audiance: is no member", "published: 5,"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q isn't in %q", want, said)
		}
	}
	var numbers []int
	for n := range bad {
		numbers = append(numbers, n)
	}
	wantEach(t, listed(t, p), 2500, numbers...)

	mended := linesFile(t, 2500, nil) // of the same name
	if _, said, code := publish(mended); code != 0 {
		t.Errorf("mended: exit code %d, %s", code, said)
	}
	wantEach(t, listed(t, p), 2500)

	if out, _, code := publish("--from", "2499", mended); code != 0 || len(strings.Fields(out)) != 2 {
		t.Errorf("from line 2499: exit code %d, %q", code, out)
	}
	// Behind the last line there may be nothing left to do; further on is a mistake.
	for from, wants := range map[string]int{"2501": 0, "2502": 1} {
		if out, said, code := publish("--from", from, mended); code != wants || out != "" || wants != 0 && !strings.Contains(said, "--from 2502: the file ends with line 2500") {
			t.Errorf("from line %s: exit code %d, %q, %s", from, code, out, said)
		}
	}
	csv := filepath.Join(t.TempDir(), "events.csv")
	if err := os.WriteFile(csv, []byte(strings.Repeat("a,b\n", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said, code := publish(csv); code != 1 || strings.Count(said, "\n") > mostBad+1 || !strings.Contains(said, "isn't a file of events") {
		t.Errorf("a file of something else: exit code %d, %s", code, said)
	}
}

// between is a proxy in front of a process, which the test may make fail.
type between struct {
	*httptest.Server
	requests atomic.Int64
	fail     func(n int64, w http.ResponseWriter, r *http.Request, pass http.Handler)
}

func newBetween(t *testing.T, p *process, fail func(n int64, w http.ResponseWriter, r *http.Request, pass http.Handler)) *between {
	b := &between{fail: fail}
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.address})
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.fail(b.requests.Add(1), w, r, pass)
	}))
	t.Cleanup(b.Close)
	return b
}

// A publisher that is killed, interrupted, or not answered goes on without a
// double: what it can't know was published has the same ids again.
func TestPublishGoesOn(t *testing.T) {
	t.Parallel()
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data")})
	path := linesFile(t, 10_000, nil)
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	begin := func(url string) (*exec.Cmd, *lockedBuffer) {
		cmd, said := exec.Command(bin, "publish", "--url", url, "--key", p.key, path), new(lockedBuffer)
		cmd.Stderr = said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, said
	}
	// Its third request is taken and never answered: then comes the signal.
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT} {
		taken, over := make(chan struct{}), make(chan struct{})
		b := newBetween(t, p, func(n int64, w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if n < 3 {
				pass.ServeHTTP(w, r)
				return
			}
			pass.ServeHTTP(httptest.NewRecorder(), r)
			close(taken)
			<-over
		})
		cmd, said := begin(b.URL)
		<-taken
		cmd.Process.Signal(signal)
		cmd.Wait()
		close(over)
		if signal == syscall.SIGINT && (cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said.String(), "interrupted; what is in the lines up to 2000 was published: publish") ||
			!strings.Contains(said.String(), "--from 2001")) {
			t.Errorf("interrupted: exit code %d, %s", cmd.ProcessState.ExitCode(), said)
		}
	}
	// Refused twice, cut off once, and then taken.
	b := newBetween(t, p, func(n int64, w http.ResponseWriter, r *http.Request, pass http.Handler) {
		switch n {
		case 2, 3:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(map[int64]int{2: 503, 3: 429}[n])
			fmt.Fprintf(w, `{"error":{"code":"unavailable","message":"not now, the %d. time"}}`, n-1)
		case 5:
			pass.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			pass.ServeHTTP(w, r)
		}
	})
	began := time.Now()
	cmd, said := begin(b.URL)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("it took %v, and said %s", took, said)
	}
	for _, why := range []string{"not now, the 1. time (503 unavailable); it is", "not now, the 2. time (429 unavailable); it is", "EOF"} {
		if !strings.Contains(said.String(), why) {
			t.Errorf("%q isn't in what it said: %s", why, said)
		}
	}
	wantEach(t, listed(t, p), 10_000)
}

// Nobody is there: that is said at once.
func TestPublishToNobody(t *testing.T) {
	began := time.Now()
	_, said, code := sluice(t, nil, "publish", "--url", "http://"+freeAddress(t), "--key", "sk_test_x", linesFile(t, 1, nil))
	if code != 1 || !strings.Contains(said, "--url names another") || time.Since(began) > 20*time.Second {
		t.Errorf("exit code %d after %v: %s", code, time.Since(began), said)
	}
}

func TestProgressLine(t *testing.T) {
	p := progress{size: 30e6, events: 12345, bytes: 10e6}
	if got, want := p.line(10*time.Second), "12,345 events · 10.0 MB of 30.0 MB · 1,234/s · 20s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	p.size = 0
	if got, want := p.line(10*time.Second), "12,345 events · 10.0 MB · 1,234/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
