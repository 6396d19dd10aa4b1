//go:build !linux

package web

import (
	"net"
	"syscall"
)

// letIn does nothing here: the system doesn't tell who waits.
func letIn(net.Listener, int) {}

func queueOf(net.Listener) syscall.RawConn { return nil }

func crowded(syscall.RawConn) bool { return true }

func unread(net.Conn) bool { return false }
