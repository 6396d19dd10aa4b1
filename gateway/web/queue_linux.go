package web

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// letIn waits until Accept has taken all who wait in the system's queue, for so many looks
// at it at most: closing the socket would reset them, whatever they have asked for. Hardly
// anybody joins them meanwhile, as the queue is made as short as it can be.
//
// Looks are counted, and no time: on a machine that gives us no processor for a while they
// come as late as whoever is to be taken.
func letIn(below net.Listener, looks int) {
	queue := queueOf(below)
	if queue == nil {
		return
	}
	for range looks {
		queue.Control(func(fd uintptr) { unix.Listen(int(fd), 0) })
		if !crowded(queue) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// queueOf gives what crowded looks at; nil: nobody knows who waits.
func queueOf(below net.Listener) syscall.RawConn {
	if l, ok := below.(syscall.Conn); ok {
		if raw, err := l.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// crowded reports whether anybody waits in the system's queue, or may.
func crowded(queue syscall.RawConn) bool {
	if queue == nil {
		return true
	}
	waiting := uint32(0)
	queue.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			waiting = info.Unacked // of a socket that listens: its queue
		}
	})
	return waiting > 0
}

// unread reports whether something came on a connection that nobody has read yet.
func unread(c net.Conn) bool {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = secure.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	waiting := 0
	raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return waiting > 0
}
