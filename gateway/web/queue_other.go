//go:build !linux

package web

import (
	"net"
	"time"
)

// letIn does nothing here: the system doesn't tell who waits.
func letIn(net.Listener, time.Duration) {}
