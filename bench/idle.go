package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	idleConnections = 10_000
	idleFor         = 3 * time.Second // before the memory is looked at
)

// What connections cost that get nothing. The floor accepts them and keeps them; the
// product lets each in. That needs so many open files on both sides (ulimit -n).
var (
	idleRow = idleOf("idle", "connections, subscribed; CPU time of connect, upgrade, auth and subscribe", func(p *product) (net.Conn, error) {
		conn, _, err := dialWebSocket(p.ws, p.key)
		return conn, err
	})
	idleSSERow = idleOf("idlesse", "streams of server-sent events; CPU time of connect and ask", func(p *product) (net.Conn, error) {
		conn, _, err := dialEvents(p.ws, p.key)
		return conn, err
	})
)

func idleOf(name, what string, dial func(*product) (net.Conn, error)) row {
	return row{
		name:    name,
		what:    fmt.Sprintf("%d idle %s", idleConnections, what),
		unit:    "CPU-µs per connection",
		unasked: "it holds 10,000 connections",
		floor:   idleFloor,
		product: func(ctx context.Context, cfg *Config) (sample, error) {
			p, err := startProduct(ctx, cfg)
			if err != nil {
				return sample{}, err
			}
			defer p.stop()
			return idle(p.process, func() (net.Conn, error) { return dial(p) })
		},
	}
}

func idleFloor(ctx context.Context, cfg *Config) (sample, error) {
	address, err := freeAddress()
	if err != nil {
		return sample{}, err
	}
	p, err := start(ctx, cfg.Binary, nil, "bench", "--floor", "hold", address, "0", "0")
	if err != nil {
		return sample{}, err
	}
	defer p.stop()
	first, err := dialRetrying(address)
	if err != nil {
		return sample{}, err
	}
	defer first.Close()
	return idle(p, func() (net.Conn, error) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		_, err = io.ReadFull(conn, make([]byte, 1)) // it was taken
		return conn, err
	})
}

// idle connects, waits, and looks what that took.
func idle(p *process, connect func() (net.Conn, error)) (sample, error) {
	memory := p.rssMB()
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	begun := time.Now()
	for range idleConnections {
		conn, err := connect()
		if err != nil {
			return sample{}, err
		}
		defer conn.Close()
	}
	took := time.Since(begun)
	after, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	time.Sleep(idleFor)
	idled := p.rssMB()
	later, err := p.cpu()
	return sample{
		cpu:   (after - before) / idleConnections * 1e6,
		rate:  idleConnections / took.Seconds(),
		rssMB: idled,
		more: []figure{
			{"KiB of memory a connection", (idled - memory) * 1024 / idleConnections},
			{"percent of a processor while idle", (later - after) / idleFor.Seconds() * 100},
		},
	}, err
}
