package web

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// probed has connections that say nothing be asked whether their client is still there:
// after so many seconds, so far apart, and so often until they are given up. It is what
// Go has without being told.
var probed = []struct{ level, option, value int }{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
}

// Listen listens on a TCP address. Its connections are probed: they have that from the
// listening socket, where the library would take four calls to tell each of them. A
// system that doesn't know these options of a listening socket (those of MPTCP are
// younger than MPTCP) has the library do it.
func Listen(address string) (net.Listener, error) {
	var refused error
	own := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, socket syscall.RawConn) error {
		return socket.Control(func(fd uintptr) {
			for _, o := range probed {
				if refused == nil {
					refused = unix.SetsockoptInt(int(fd), o.level, o.option, o.value)
				}
			}
		})
	}}
	ln, err := own.Listen(context.Background(), "tcp", address)
	if err != nil || refused == nil {
		return ln, err
	}
	ln.Close()
	return net.Listen("tcp", address)
}
