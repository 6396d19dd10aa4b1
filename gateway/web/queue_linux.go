package web

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// letIn waits, within that time, until Accept has taken all who wait in the system's
// queue: closing the socket would reset them, whatever they have asked for. Hardly
// anybody joins them meanwhile, as the queue is made as short as it can be.
func letIn(below net.Listener, within time.Duration) {
	l, ok := below.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		waiting := uint32(0)
		raw.Control(func(fd uintptr) {
			unix.Listen(int(fd), 0)
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				waiting = info.Unacked // of a socket that listens: its queue
			}
		})
		if waiting == 0 {
			return
		}
	}
}
