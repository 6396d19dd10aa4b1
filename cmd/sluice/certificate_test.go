package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// authority signs certificates for 127.0.0.1 and localhost.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate
	next int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), next: 1}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a *authority) write(name string, text []byte) string {
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// issue writes name.crt and name.key.
func (a *authority) issue(name string) (cert, key string) {
	return a.issueUntil(name, time.Now().Add(time.Hour))
}

func (a *authority) issueUntil(name string, end time.Time) (cert, key string) {
	a.t.Helper()
	pair, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.next++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pair.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		a.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func (a *authority) client() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool}
}

// shown gives the name in the certificate that the address shows.
func (a *authority) shown(address string) string {
	a.t.Helper()
	conn, err := tls.Dial("tcp", address, a.client())
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// Over TLS the server sees its port, too, and who waits there.
func TestSecureShowsItsSocket(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	above := new(certificate).listener(ln)
	defer above.Close()
	if raw, err := above.(syscall.Conn).SyscallConn(); err != nil || raw.Control(func(uintptr) {}) != nil {
		t.Errorf("%v, %v", raw, err)
	}
}

// TestTLS: curl and a WebSocket client over TLS, and a certificate that is
// replaced while they are connected.
func TestTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue("first")
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data"), "--tls-cert", cert, "--tls-key", key})

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "wss://"+p.address+"/v1/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: a.client()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	hear := func(want string) {
		t.Helper()
		_, text, err := conn.Read(ctx)
		if err != nil || !strings.Contains(string(text), want) {
			t.Fatalf("%s, not %s: %v", text, want, err)
		}
	}
	for _, text := range []string{`{"type":"auth","token":"` + p.key + `"}`, `{"type":"subscribe","channels":["*"]}`} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	hear("auth.ok")
	hear("subscribe.ok")
	publish := func() {
		t.Helper()
		line := strings.Replace(curlLine("https://"+p.address, p.key, `{"type":"a.b","data":{}}`), "curl ", "curl --http1.1 --cacert "+a.file+" ", 1)
		out, err := exec.Command("bash", "-c", line).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("evt_")) {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		hear("a.b")
	}
	publish()

	if conn, err := tls.Dial("tcp", p.address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		conn.Close()
		t.Error("TLS 1.1 was spoken")
	}

	replace := func(newCert, newKey string) {
		for to, from := range map[string]string{cert: newCert, key: newKey} {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	hup := func(says string) {
		t.Helper()
		p.cmd.Process.Signal(syscall.SIGHUP)
		eventually(t, patience, func() error {
			if !strings.Contains(p.messages.String(), says) {
				return os.ErrNotExist
			}
			return nil
		})
	}
	replace(a.issue("second"))
	hup("certificate reloaded")
	if name := a.shown(p.address); name != "second" {
		t.Errorf("after SIGHUP it shows %s", name)
	}
	if err := os.WriteFile(key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	hup("certificate not reloaded")
	if name := a.shown(p.address); name != "second" {
		t.Errorf("after a bad reload it shows %s", name)
	}
	replace(a.issueUntil("third", time.Now().Add(-time.Minute)))
	hup(cert + " expired on ")
	if name := a.shown(p.address); name != "second" {
		t.Errorf("after one that had expired it shows %s", name)
	}
	publish() // on the connection from before
}

// A process that shows no certificate isn't ended by SIGHUP. Its ops port tells
// nobody what stood on its command line.
func TestNothingToReload(t *testing.T) {
	t.Parallel()
	p := startProcess(t, []string{"--data", filepath.Join(t.TempDir(), "data"), "--admin-token", "hidden-token"})
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, patience, func() error {
		if !strings.Contains(p.messages.String(), "nothing to read again") {
			return os.ErrNotExist
		}
		return nil
	})
	if err := p.call(t.Context(), "POST", "/v1/events", "application/json", []byte(`{"type":"a.b","data":{}}`), 202, nil); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/debug/pprof/cmdline", "/debug/pprof/", "/metrics", "/readyz"} {
		r, err := http.Get("http://" + p.ops + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || bytes.Contains(text, []byte("hidden-token")) {
			t.Errorf("%s: %v: %s", path, err, text)
		}
	}
}
