package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// securePipe is a pipe with TLS on it.
func securePipe(t *testing.T) func() (ours, theirs net.Conn) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return func() (net.Conn, net.Conn) {
		ours, theirs := net.Pipe()
		// Without tickets, which the server would send unasked, into a pipe that nobody reads.
		server := tls.Server(ours, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, SessionTicketsDisabled: true})
		return server, tls.Client(theirs, &tls.Config{InsecureSkipVerify: true})
	}
}

// TestSecurePause: a client on TLS that takes nothing for longer than a write is
// left alone for reads on, and finds each event or its loss in its place.
func TestSecurePause(t *testing.T) {
	bubble(t, anybody{}, securePipe(t), func(v *virtual) {
		v.join()
		v.publish(1)
		synctest.Wait() // the writer has it
		v.publish(20)
		time.Sleep(20 * time.Second)
		v.want(opText, "rfq.created", 20*time.Second)
		v.want(opText, `"dropped"`, 20*time.Second)
		for range 4 {
			v.want(opText, "rfq.created", 20*time.Second)
		}
	})
}

// TestSecureEnd: who reads to the end on TLS has it right behind the close frame, while
// its own last words are waited for.
func TestSecureEnd(t *testing.T) {
	bubble(t, anybody{}, securePipe(t), func(v *virtual) {
		v.join()
		if _, err := v.nc.Write([]byte{0x81, 0x01, 'x'}); err != nil { // not masked
			v.t.Fatal(err)
		}
		v.want(opClose, closed(1002), 0)
		if _, _, err := v.frame(); err != io.EOF {
			v.t.Fatalf("%v, and not the end", err)
		}
		if took := time.Since(v.began); took > 0 {
			v.t.Fatalf("the end came after %v", took)
		}
	})
}

// TestSecureStall: who takes nothing at all while events are lost is closed, not
// before its time, and who has room isn't.
func TestSecureStall(t *testing.T) {
	bubble(t, anybody{}, securePipe(t), func(v *virtual) {
		v.join()
		v.publish(3)
		c := v.conn()
		time.Sleep(45 * time.Second)
		if c.ended() != nil {
			v.t.Fatalf("closed as %s although there is room", c.ended().Name)
		}
	})
	bubble(t, anybody{}, securePipe(t), func(v *virtual) {
		v.join()
		v.publish(1)
		synctest.Wait()
		v.publish(20)
		c := v.conn()
		time.Sleep(29 * time.Second)
		if c.ended() != nil {
			v.t.Fatalf("closed as %s too soon", c.ended().Name)
		}
		time.Sleep(3 * time.Second)
		if e := c.ended(); e == nil || e.Name != "slow" {
			v.t.Fatalf("not closed: %v", e)
		}
	})
}
