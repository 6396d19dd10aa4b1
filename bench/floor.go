package bench

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/pkg/eventlog/embedded"
)

// Floor does the work of a floor's process, or of clients that are to be in none of
// those that are measured, as its arguments say, and returns when it is done.
func Floor(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("a floor takes a name, an address, a number, a size, and maybe one more")
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	switch args[0] {
	case "write":
		together, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		return floorWrite(args[1], n, size, together)
	case "hold":
		return floorHold(args[1])
	case "sync":
		return floorSync(args[1], nil)
	case "relay":
		to := newPosters(args[4])
		return floorSync(args[1], func(body []byte) { go to.post(body) })
	case "post":
		return floorPost(args[1], n, size)
	case "open":
		return floorOpen(args[1], args[4])
	case "comeback":
		return comeBack(args[1], n, size, args[4], args[5])
	}
	return fmt.Errorf("no floor is named %q", args[0])
}

// floorWrite takes one feeding connection and then n others, and writes each
// message of the feed to all others: one thread, one write() for so many messages
// together, blocking.
func floorWrite(address string, n, size, together int) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	feed, err := ln.Accept()
	if err != nil {
		return err
	}
	descriptors := make([]int, n)
	for i := range descriptors {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			return err
		}
		descriptors[i] = int(file.Fd()) // blocking from here on
		conn.Close()
		defer file.Close()
	}
	feedFile, err := feed.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	defer feedFile.Close()
	runtime.LockOSThread()
	message := make([]byte, size*together)
	for in := int(feedFile.Fd()); ; {
		for have := 0; have < len(message); {
			k, err := syscall.Read(in, message[have:])
			if err != nil || k == 0 {
				return err
			}
			have += k
		}
		for _, fd := range descriptors {
			if _, err := syscall.Write(fd, message); err != nil {
				return err
			}
		}
	}
}

// floorHold takes connections, says a byte to each, and keeps them.
func floorHold(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() {
		awaitEnd()
		ln.Close()
	}()
	var held []net.Conn
	for {
		conn, err := ln.Accept()
		if err != nil {
			runtime.KeepAlive(held)
			return nil
		}
		held = append(held, conn)
		conn.Write([]byte{0})
	}
}

// floorSync takes bodies over HTTP and answers each once it is on the disk. All
// that wait share one sync. Then it hands the body on, unless then is nil.
func floorSync(address string, then func(body []byte)) error {
	file, err := os.CreateTemp("", "sluice-bench-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	var (
		mu      sync.Mutex
		waiting []byte
		synced  = make(chan struct{})
		wake    = make(chan struct{}, 1)
	)
	go func() {
		for range wake {
			mu.Lock()
			bytes, done := waiting, synced
			waiting, synced = nil, make(chan struct{})
			mu.Unlock()
			if _, err := file.Write(bytes); err != nil {
				panic(err)
			}
			if err := syncData(file); err != nil {
				panic(err)
			}
			close(done)
		}
	}()
	server := fasthttp.Server{MaxRequestBodySize: 4 << 20, Handler: func(ctx *fasthttp.RequestCtx) {
		mu.Lock()
		waiting = append(waiting, ctx.PostBody()...)
		done := synced
		mu.Unlock()
		select {
		case wake <- struct{}{}:
		default:
		}
		<-done
		if then != nil {
			then(bytes.Clone(ctx.PostBody()))
		}
		ctx.SetStatusCode(fasthttp.StatusAccepted)
	}}
	go func() {
		awaitEnd()
		server.Shutdown()
	}()
	return server.ListenAndServe(address)
}

// posters sign bodies and POST them over kept connections, 32 at most.
type posters struct {
	client fasthttp.HostClient
	url    string
}

var floorSecret = []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

func newPosters(url string) *posters {
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return &posters{url: url, client: fasthttp.HostClient{
		Addr: host, MaxConns: 32, ReadTimeout: 30 * time.Second, DisableHeaderNamesNormalizing: true}}
}

func (p *posters) post(body []byte) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, floorSecret)
	io.WriteString(mac, stamp)
	io.WriteString(mac, ".")
	mac.Write(body)
	req.Header.DisableNormalizing()
	req.Header.SetMethod("POST")
	req.SetRequestURI(p.url)
	req.Header.SetContentType("application/json")
	req.Header.Set("X-Timestamp", stamp)
	req.Header.Set("X-Signature", hex.EncodeToString(mac.Sum(nil)))
	req.SetBodyRaw(body)
	return p.client.Do(req, resp)
}

// floorPost signs and POSTs n bodies from 32 workers.
func floorPost(address string, n, size int) error {
	to := newPosters("http://" + address + "/hook")
	body := append([]byte(`{"pad":"`), bytes.Repeat([]byte("x"), size-10)...)
	body = append(body, `"}`...)
	var left atomic.Int64
	left.Store(int64(n))
	var workers sync.WaitGroup
	errs := make(chan error, 32)
	for range 32 {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := to.post(body); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(errs)
	return <-errs
}

// floorOpen opens the log in a data directory with no topic, so that nothing in it
// is looked at, reads the bytes of control's snapshot, and says that it is ready.
func floorOpen(address, data string) error {
	log, err := embedded.Open(context.Background(), embedded.Config{Dir: filepath.Join(data, "log")})
	if err != nil {
		return err
	}
	defer log.Close()
	snapshot, err := os.ReadFile(filepath.Join(data, "control.snapshot"))
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() {
		awaitEnd()
		server.Close()
	}()
	server.Serve(ln)
	runtime.KeepAlive(snapshot)
	return nil
}

// awaitEnd waits for the signal that ends a floor.
func awaitEnd() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
}
