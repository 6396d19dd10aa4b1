package attempt

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) {
	if os.Getenv(benchReceiver) != "" {
		runBenchReceiver()
		return
	}
	// fasthttp's client, of which a benchmark makes one, ends in its own time.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// receiver is somebody's server, down to its bytes.
type receiver struct {
	addr    string
	accepts atomic.Int64
	asked   atomic.Int64 // whole requests that came in
	wrote   atomic.Int64 // bytes that repeat could write
	done    chan struct{}
}

// receive serves each connection with serve, which gets what it needs to read
// requests. Everything ends with the test.
func receive(t testing.TB, serve func(r *receiver, c net.Conn, br *bufio.Reader)) *receiver {
	t.Helper()
	return receiveOn(t, "127.0.0.1:0", nil, serve)
}

func receiveOn(t testing.TB, addr string, secure *tls.Config, serve func(r *receiver, c net.Conn, br *bufio.Reader)) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{addr: l.Addr().String(), done: make(chan struct{})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]struct{}{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.accepts.Add(1)
			mu.Lock()
			conns[c] = struct{}{}
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				if secure != nil {
					tc := tls.Server(c, secure)
					if tc.Handshake() != nil {
						return
					}
					serve(r, tc, bufio.NewReader(tc))
					return
				}
				serve(r, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		close(r.done)
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return r
}

// request reads one whole request; false: there is none any more.
func (r *receiver) request(br *bufio.Reader) (*http.Request, []byte, bool) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, nil, false
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, nil, false
	}
	r.asked.Add(1)
	return req, body, true
}

// answer gives a serve function that says the same to every request.
func answer(text string) func(*receiver, net.Conn, *bufio.Reader) {
	return func(r *receiver, c net.Conn, br *bufio.Reader) {
		for {
			if _, _, ok := r.request(br); !ok {
				return
			}
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

// repeat writes text again and again, until nobody listens.
func repeat(r *receiver, c net.Conn, text string, pause time.Duration) {
	for {
		n, err := io.WriteString(c, text)
		r.wrote.Add(int64(n))
		if err != nil {
			return
		}
		if pause > 0 {
			select {
			case <-r.done:
				return
			case <-time.After(pause):
			}
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// local is a configuration for receivers on this machine, with short times.
func local() Config {
	return Config{
		Version:      "test",
		AllowHTTP:    true,
		AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Total:        400 * time.Millisecond,
		Dial:         300 * time.Millisecond,
		TLS:          250 * time.Millisecond,
		Body:         100 * time.Millisecond,
	}
}

// patient is local with times that no machine is too slow for: for whatever doesn't
// end by them.
func patient() Config {
	cfg := local()
	cfg.Total, cfg.Dial, cfg.TLS, cfg.Body = time.Minute, time.Minute, time.Minute, time.Minute
	return cfg
}

// muchLater is after all that local bounds, on any machine, and before what patient does.
const muchLater = 30 * time.Second

func newSender(t testing.TB, cfg Config) *HTTPSender {
	s := NewHTTPSender(cfg)
	t.Cleanup(s.Close)
	return s
}

// authority signs the certificates of test receivers.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// issue gives a server's configuration with a certificate for the name, which is
// a host name or an address, good until the given time.
func (a *authority) issue(t testing.TB, name string, until time.Time) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"h2", "http/1.1"},
		MinVersion:   tls.VersionTLS10,
	}
}

// resolver gives a resolver that asks a name server of ours: answer maps a name
// to an address or several with commas between, or to "": no such name, "fail": the server fails, "slow": it
// doesn't answer.
func resolver(t testing.TB, answers map[string]string) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
			switch to := answers[q.Name.String()]; to {
			case "slow":
				continue
			case "fail":
				reply.RCode = dnsmessage.RCodeServerFailure
			case "":
				reply.RCode = dnsmessage.RCodeNameError
			default:
				head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
				for one := range strings.SplitSeq(to, ",") {
					addr := netip.MustParseAddr(one)
					if q.Type == dnsmessage.TypeA && addr.Is4() {
						reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: addr.As4()}})
					} else if q.Type == dnsmessage.TypeAAAA && addr.Is6() {
						reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
					}
				}
			}
			out, err := reply.Pack()
			if err != nil {
				continue
			}
			pc.WriteTo(out, from)
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	var d net.Dialer
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := d.DialContext(ctx, "udp", pc.LocalAddr().String())
		if err == nil {
			// The resolver waits on for an answer that nobody wants any more.
			context.AfterFunc(ctx, func() { c.Close() })
		}
		return c, err
	}}
}
