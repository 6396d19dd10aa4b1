//go:build !linux

package web

import "net"

// Listen listens on a TCP address.
func Listen(address string) (net.Listener, error) { return net.Listen("tcp", address) }
