// Package epoll reads and writes sockets without a goroutine for each: it takes
// a connection's descriptor away from the runtime, and says when it is worth
// trying again.
//
//	*net.TCPConn ─► Take ─► FD ─┬─► Poller.Add ─► Watcher.Ready(in, out), at each change
//	                            ├─► Read, Writer.Write: what can be done at once, else ErrAgain
//	                            └─► Poller.AwaitRoom, behind ErrAgain of a write
//
// A Poller watches edges: Ready says that something changed since the last
// ErrAgain, be it falsely, and nothing twice. So who is told reads or writes until
// ErrAgain, and who writes asks then to be told of room. The Poller's own descriptor is one of the runtime's, so that waiting
// costs no thread. Where the system isn't Linux, New fails and nothing is taken.
package epoll

import "errors"

// ErrAgain says that the socket can't do more now.
var ErrAgain = errors.New("socket isn't ready")

// Watcher is told of one descriptor. Ready is called on the poller's goroutine: who
// would hold it up calls Leave first. It may come once more after the descriptor was
// closed.
type Watcher interface {
	Ready(in, out bool)
}
