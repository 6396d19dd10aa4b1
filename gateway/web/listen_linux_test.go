package web_test

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/gateway/web"
)

// TestProbed: a connection of ours is probed as one of the library's is, MPTCP or not.
func TestProbed(t *testing.T) {
	ours, err := web.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	library, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := probes(t, ours), probes(t, library); got != want || got[0] == 0 {
		t.Errorf("probes %v, the library's %v", got, want)
	}
}

// probes gives the options of a connection that the listener takes: whether it is probed,
// after how many seconds, how far apart, how often.
func probes(t *testing.T, ln net.Listener) (options [4]int) {
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	taken, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	raw, err := taken.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for i, o := range [4][2]int{{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT}} {
			value, err := unix.GetsockoptInt(int(fd), o[0], o[1])
			if err != nil {
				t.Error(err)
			}
			options[i] = value
		}
	})
	return options
}
