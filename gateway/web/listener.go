package web

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// listener is where connections come from. The library gives up at the first
// error of Accept, and with it would the process; so those that pass are waited
// out here. Closing it twice is no error.
type listener struct {
	net.Listener
	log *slog.Logger

	once sync.Once
	err  error
}

func (l *listener) Accept() (net.Conn, error) {
	const shortest, longest = 5 * time.Millisecond, time.Second
	for delay := shortest; ; delay = min(2*delay, longest) {
		c, err := l.Listener.Accept()
		if err == nil || !passes(err) {
			return c, err
		}
		l.log.Warn("connection not taken, trying again", "error", err, "delay", delay)
		time.Sleep(delay)
	}
}

// passes reports whether an error is of one connection, or of a shortage that
// ends when others close.
func passes(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *listener) Close() error {
	l.once.Do(func() { l.err = l.Listener.Close() })
	return l.err
}
