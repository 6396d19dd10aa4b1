package fleet

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Balancer is one address in front of several nodes: a connection goes to the next
// of them that takes it.
type Balancer struct {
	Address string               // host:port
	Without atomic.Pointer[Node] // who gets none, though it may take them: it isn't ready

	nodes   []*Node
	ln      net.Listener
	turn    atomic.Uint32
	serving sync.WaitGroup

	mu    sync.Mutex
	ended bool
	open  map[net.Conn]struct{}
}

// Balance serves until End.
func Balance(nodes []*Node) (*Balancer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{Address: ln.Addr().String(), nodes: nodes, ln: ln, open: make(map[net.Conn]struct{})}
	b.serving.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			b.serving.Go(func() { b.carry(client) })
		}
	})
	return b, nil
}

// End closes everything.
func (b *Balancer) End() {
	b.ln.Close()
	b.mu.Lock()
	b.ended = true
	for c := range b.open {
		c.Close()
	}
	b.mu.Unlock()
	b.serving.Wait()
}

// carry connects a client with a node; who ends first ends both.
func (b *Balancer) carry(client net.Conn) {
	defer b.forget(client)
	if !b.keep(client) {
		return
	}
	turn := int(b.turn.Add(1)) // of this connection: others come meanwhile
	for i := range b.nodes {
		n := b.nodes[(turn+i)%len(b.nodes)]
		if n == b.Without.Load() {
			continue
		}
		server, err := net.Dial("tcp", n.Address)
		if err != nil {
			continue
		}
		defer b.forget(server)
		if !b.keep(server) {
			return
		}
		back := make(chan struct{})
		go func() {
			defer close(back)
			io.Copy(client, server)
			client.Close()
		}()
		io.Copy(server, client)
		server.Close()
		<-back
		return
	}
}

func (b *Balancer) keep(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[c] = struct{}{}
	return !b.ended
}

func (b *Balancer) forget(c net.Conn) {
	c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, c)
}
