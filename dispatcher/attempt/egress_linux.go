package attempt

import "syscall"

// bindAddressNoPort is IP_BIND_ADDRESS_NO_PORT, which syscall doesn't name.
const bindAddressNoPort = 24

// leavePortOpen has a socket that is bound to an address take its port only when
// it connects. Where the system doesn't know that, a port serves one connection.
func leavePortOpen(fd int) {
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1)
}
