package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// certificate is what the public port shows. Its files can be read again while
// connections are open: those keep what they agreed on, new ones get the new one.
type certificate struct {
	cert, key string // files
	current   atomic.Pointer[pair]
}

// pair is a certificate with its key, and the file that it came from.
type pair struct {
	tls.Certificate
	flag, file string
}

// invalid says that clients won't take the certificate now, by its dates. It is
// shown all the same: what stands between them and us may not look.
func (p *pair) invalid() error {
	switch leaf, now := p.Leaf, time.Now(); {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("%s: %s expired on %s: renew it", p.flag, p.file, leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("%s: %s isn't valid before %s: see to it, and to this machine's clock", p.flag, p.file, leaf.NotBefore.Format(time.RFC3339))
	}
	return nil
}

func newCertificate(cert, key string) (*certificate, error) {
	c := &certificate{cert: cert, key: key}
	return c, c.load()
}

// load takes what the files hold, unless that is worse than what there is.
func (c *certificate) load() error {
	p, err := loadPair("--tls-cert", c.cert, "--tls-key", c.key)
	if err != nil {
		return err
	}
	if old := c.current.Load(); old != nil && old.invalid() == nil {
		if err := p.invalid(); err != nil {
			return err
		}
	}
	c.current.Store(p)
	return nil
}

// reload reads the files again. Where they are bad, or clients would refuse what
// they hold, the old certificate stays.
func (c *certificate) reload(log *slog.Logger) {
	if err := c.load(); err != nil {
		log.Error("certificate not reloaded, the one before stays", "error", err)
		return
	}
	log.Info("certificate reloaded", "expires", c.current.Load().Leaf.NotAfter)
}

func (c *certificate) listener(below net.Listener) net.Listener {
	above := tls.NewListener(below, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.current.Load().Certificate, nil },
	})
	if socket, ok := below.(syscall.Conn); ok {
		return secure{above, socket}
	}
	return above
}

// secure is a listener whose socket the server sees: who waits there is let in before
// it closes, and where nobody waits there is no crowd.
type secure struct {
	net.Listener
	syscall.Conn
}

// loadPair reads a certificate and its key, named by these flags.
func loadPair(certFlag, cert, keyFlag, key string) (*pair, error) {
	for _, file := range [][2]string{{certFlag, cert}, {keyFlag, key}} {
		f, err := os.Open(file[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w: name a file that this process can read", file[0], err)
		}
		f.Close()
	}
	both, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s %s, %s %s: %w: give a certificate and its own private key, both as PEM", certFlag, cert, keyFlag, key, err)
	}
	return &pair{both, certFlag, cert}, nil
}

// readSecret reads a file that is nobody else's business. Its group may read it,
// as where secrets are mounted for a container; the rest of the machine may not.
func readSecret(flag, path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s: there is no file %s: name one that is there", flag, path)
	case err != nil:
		return "", fmt.Errorf("%s: %w: name a file that this process can read", flag, err)
	case info.Mode().Perm()&0o027 != 0:
		return "", fmt.Errorf("%s: everybody on this machine may use %s (mode %04o): take that away with: chmod 600 %s", flag, path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w: name a file that this process can read", flag, err)
	}
	return string(text), nil
}
