//go:build !linux

package epoll

import (
	"errors"
	"net"
)

// FD is a descriptor that was taken over: there is none on this system.
type FD int

// Take fails.
func Take(*net.TCPConn) (FD, error) { return -1, errors.ErrUnsupported }

// Read fails.
func (FD) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// CloseWrite does nothing.
func (FD) CloseWrite() {}

// Shutdown does nothing.
func (FD) Shutdown() {}

// Close does nothing.
func (FD) Close() {}

// Writer writes nothing.
type Writer struct{}

// Write fails.
func (*Writer) Write(FD, [][]byte) (int, error) { return 0, errors.ErrUnsupported }

// Poller watches nothing.
type Poller struct{}

// New fails.
func New() (*Poller, error) { return nil, errors.ErrUnsupported }

// Add fails.
func (*Poller) Add(FD, Watcher) error { return errors.ErrUnsupported }

// AwaitRoom fails.
func (*Poller) AwaitRoom(FD) error { return errors.ErrUnsupported }

// Remove does nothing.
func (*Poller) Remove(FD) {}

// Leave does nothing.
func (*Poller) Leave() {}

// Close does nothing.
func (*Poller) Close() {}
