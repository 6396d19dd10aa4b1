package loadtest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestUgly has clients come to two processes, one of them on TLS, and leave in every
// way that is no good (guest_test.go), a few thousand at a time. Who behaves, and
// stays, misses nothing meanwhile; and then nothing is left of the others: no
// goroutine, no descriptor, no memory.
//
//	SLUICE_UGLY   how many come (default: 1,000)
func TestUgly(t *testing.T) {
	t.Parallel() // it waits most of the time
	total := 1000
	if text := os.Getenv("SLUICE_UGLY"); text != "" {
		var err error
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatalf("SLUICE_UGLY: %v", err)
		}
	}
	hosts := []*host{openHouse(t, false), openHouse(t, true)}
	crowd(t, hosts, min(total/4, 4000), 1)
	// What the first crowd brought may stay: pools, caches; and for some seconds
	// goroutines of the server's that have nothing to do.
	time.Sleep(12 * time.Second)
	var before, after []remains
	for _, h := range hosts {
		before = append(before, h.settle(t, remains{sockets: 1 << 20, goroutines: 1 << 20, heap: 1 << 50, rss: 1 << 50}))
	}
	began := time.Now()
	came := crowd(t, hosts, total, 2)
	took := time.Since(began)
	for i, w := range ways {
		if came[i].Load() == 0 {
			t.Errorf("nobody %s", w.name)
		}
	}
	for i, h := range hosts {
		b := before[i]
		if total < 50_000 { // the first crowd was too small to fill pools and caches
			b.rss = 1 << 50
		}
		after = append(after, h.settle(t, b))
	}
	t.Logf("%d connections came and went in %v", total, took.Round(time.Second))
	for i, h := range hosts {
		h.leave(t)
		b, a := before[i], after[i]
		t.Logf("%-5s sockets %d then %d, descriptors %d then %d, goroutines %d then %d, heap %.1f then %.1f MiB, memory %.0f then %.0f MiB; %s",
			h.name, b.sockets, a.sockets, b.files, a.files, b.goroutines, a.goroutines, b.heap/mib, a.heap/mib, b.rss/mib, a.rss/mib, h.endings(t))
	}
}

const mib = 1 << 20

// host is a process with one client that stays.
type host struct {
	name  string
	node  *node
	key   string
	tls   *tls.Config // nil: plain text
	start string      // the cursor before all events

	published, heard atomic.Int64
	steady           *guest
}

// openHouse starts a process, with some events in its log, and one client that follows.
func openHouse(t *testing.T, secure bool) *host {
	t.Helper()
	h := &host{name: "plain"}
	dir := t.TempDir()
	f := newFleet(t, nil, dir, "all")
	h.node = f.nodes[0]
	if secure {
		h.name, h.tls = "TLS", &tls.Config{InsecureSkipVerify: true}
		h.node.Args = append(h.node.Args, certify(t, dir)...)
	}
	f.start()
	h.key = newLoad(t, f, 1).orgs[0].key
	if h.steady = h.arrive("127.0.0.1", mrand.New(mrand.NewPCG(0, 0)), false); h.steady == nil {
		t.Fatalf("%s: nobody is let in", h.name)
	}
	h.steady.join("")
	h.start = h.steady.cursor()
	go h.follow()
	for range 3 {
		h.publish(t, bytes.Repeat([]byte(uglyEvent("old")+"\n"), 50), 50)
	}
	return h
}

// uglyEvent is so large that who doesn't read a replay has not all of it in the
// kernel's hands, and who reads some of it doesn't come to the end.
func uglyEvent(name string) string {
	return `{"type":"ugly.` + name + `","data":{"pad":"` + strings.Repeat("x", 2000) + `"}}`
}

// certify makes a certificate, and gives the flags that name it.
func certify(t *testing.T, dir string) (flags []string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for flag, block := range map[string]*pem.Block{"--tls-cert": {Type: "CERTIFICATE", Bytes: der}, "--tls-key": {Type: "PRIVATE KEY", Bytes: private}} {
		path := filepath.Join(dir, flag+".pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, flag, path)
	}
	return flags
}

// publish publishes so many events.
func (h *host) publish(t *testing.T, lines []byte, events int64) {
	client, scheme := http.Client{Transport: &http.Transport{TLSClientConfig: h.tls, DisableKeepAlives: true}, Timeout: time.Minute}, "http://"
	if h.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequest("POST", scheme+h.node.Address+"/v1/events", bytes.NewReader(lines))
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Authorization", "Bearer "+h.key)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client.Do(req)
	if err != nil {
		t.Errorf("%s: publish: %v", h.name, err)
		return
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		t.Errorf("%s: publish: %s: %s", h.name, resp.Status, text)
		return
	}
	h.published.Add(events)
}

// follow counts what the steady client hears.
func (h *host) follow() {
	for {
		h.steady.nc.SetDeadline(time.Now().Add(time.Minute))
		op, text, err := h.steady.frame()
		switch {
		case err != nil:
			return
		case op == 0x89:
			h.steady.say(0x8a, string(text))
		case bytes.HasPrefix(text, []byte(`{"type":"ugly.`)):
			h.heard.Add(1)
		}
	}
}

// leave has the steady client leave, once it has heard of everything.
func (h *host) leave(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); h.heard.Load() != h.published.Load(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: who stayed heard of %d events, and %d were published", h.name, h.heard.Load(), h.published.Load())
			break
		}
	}
	h.steady.nc.Close()
}

// crowd has so many guests come, and waits until they have gone. One in five comes
// on TLS; with each hundredth an event is published. It gives how many went which way.
func crowd(t *testing.T, hosts []*host, total int, seed uint64) (came []atomic.Int64) {
	came = make([]atomic.Int64, len(ways))
	var coming, staying sync.WaitGroup
	room := make(chan struct{}, 3000) // for those who stay until they are sent away
	next := atomic.Int64{}
	for range 48 {
		coming.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(total) {
					return
				}
				if i%100 == 0 {
					for _, h := range hosts {
						h.publish(t, []byte(uglyEvent("new")), 1)
					}
				}
				rnd := mrand.New(mrand.NewPCG(seed, uint64(i)))
				h := hosts[0]
				if i%5 == 0 {
					h = hosts[1]
				}
				n := rnd.IntN(len(ways))
				w := ways[n]
				g := h.arrive(fmt.Sprintf("127.0.%d.%d", 1+i%4, 1+rnd.IntN(250)), rnd, w.bare)
				if g == nil {
					continue
				}
				came[n].Add(1)
				if !w.stays {
					w.do(g)
					g.leave()
					continue
				}
				room <- struct{}{}
				staying.Go(func() {
					w.do(g)
					g.leave()
					<-room
				})
			}
		})
	}
	coming.Wait()
	staying.Wait()
	return came
}

// remains are what is in a process's hands.
type remains struct {
	sockets, files, goroutines int
	heap, rss                  float64
}

// settle waits until no more is in the process's hands than before. Memory comes last:
// what the heap has given up the runtime hands back to the system little by little.
func (h *host) settle(t *testing.T, before remains) (r remains) {
	t.Helper()
	var left float64
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		for range 2 { // what is in pools outlives a collection
			resp, err := scraper.Get("http://" + h.node.Ops + "/debug/pprof/heap?gc=1")
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		g, err := h.node.gauges()
		if err != nil {
			t.Fatal(err)
		}
		left = g.sum("sluice_stream_connections") - 1
		r = remains{h.node.sockets(), int(g["process_open_fds"]), int(g["go_goroutines"]), g["go_memstats_heap_alloc_bytes"], g["process_resident_memory_bytes"]}
		if left == 0 && r.sockets <= before.sockets && r.goroutines <= before.goroutines+4 && r.heap <= 1.1*before.heap+4*mib && r.rss <= 1.1*before.rss+16*mib {
			return r
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: still there: %v connections, %+v; before: %+v", h.name, left, r, before)
			return r
		}
	}
}

// endings tells how connections ended, so that it is seen whether guests did what
// they came for.
func (h *host) endings(t *testing.T) string {
	t.Helper()
	g, err := h.node.gauges()
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, name := range []string{"client", "lost", "no_auth", "bad_key", "protocol", "bad_utf8", "flood", "bad_messages"} {
		n := 0.0
		for k, v := range g {
			if strings.HasPrefix(k, "sluice_stream_endings_total{") && strings.Contains(k, `ending="`+name+`"`) {
				n += v
			}
		}
		if n == 0 {
			t.Errorf("%s: nobody ended as %s", h.name, name)
		}
		text = append(text, fmt.Sprintf("%s %.0f", name, n))
	}
	return "endings: " + strings.Join(text, ", ")
}

// arrive connects a guest from an address of this machine; nil: the system has no
// room. bare: without TLS, wherever it comes to.
func (h *host) arrive(from string, rnd *mrand.Rand, bare bool) *guest {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 20 * time.Second}
	nc, err := dialer.Dial("tcp", h.node.Address)
	if err != nil {
		return nil
	}
	g := &guest{host: h, tcp: nc.(*net.TCPConn), nc: nc, rnd: rnd}
	nc.SetDeadline(time.Now().Add(30 * time.Second))
	if h.tls != nil && !bare {
		g.nc = tls.Client(nc, h.tls)
	}
	g.in = bufio.NewReader(g.nc)
	return g
}
