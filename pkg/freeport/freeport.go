// Package freeport finds addresses of this machine on which a process that is about to
// be started can listen.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
)

// The ports that addresses are of: no system gives them away by itself.
const (
	lowest = 10_000
	ports  = 9_000
)

var (
	first = rand.Uint32N(ports)
	given atomic.Uint32
)

// Address is of a port that no system gives away by itself: one that it would may be
// a connection's of somebody else before the process has it, or has it again. From
// anywhere on one is given after the other, so that no two callers have one at once;
// there may be any number of them.
func Address() (string, error) {
	for range ports {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+(first+given.Add(1))%ports))
		if err == nil {
			ln.Close()
			return ln.Addr().String(), nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", err
		}
	}
	return "", fmt.Errorf("no port from %d to %d is free", lowest, lowest+ports-1)
}
