package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/pkg/freeport"
)

const (
	idleConnections = 10_000
	idleAlone       = 5000            // of them, which come one after another
	idleAbreast     = 64              // of the others are on their way at any time
	idleFor         = 3 * time.Second // before the memory is looked at
)

// What connections cost that get nothing. The floor accepts them and keeps them; the
// product lets each in. That needs so many open files on both sides (ulimit -n). Those
// who come alone wake a server that has gone to sleep at each step; those who come
// together find it awake, unless it has them wait as a crowd.
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
	address, err := freeport.Address()
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
	alone, err := connectAll(idleAlone, 1, connect)
	defer alone.close()
	if err != nil {
		return sample{}, err
	}
	took := time.Since(begun)
	between, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	others, err := connectAll(idleConnections-idleAlone, idleAbreast, connect)
	defer others.close()
	if err != nil {
		return sample{}, err
	}
	after, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	time.Sleep(idleFor)
	idled := p.rssMB()
	later, err := p.cpu()
	return sample{
		cpu:   (between - before) / idleAlone * 1e6,
		rate:  idleAlone / took.Seconds(),
		rssMB: idled,
		more: []figure{
			{fmt.Sprintf("CPU-µs per connection where %d come at a time", idleAbreast), (after - between) / (idleConnections - idleAlone) * 1e6},
			{"KiB of memory a connection", (idled - memory) * 1024 / idleConnections},
			{"percent of a processor while idle", (later - after) / idleFor.Seconds() * 100},
		},
	}, err
}

// idlers are connections that are closed together.
type idlers []net.Conn

func (c idlers) close() {
	for _, conn := range c {
		if conn != nil {
			conn.Close()
		}
	}
}

// connectAll makes so many connections, some of them at a time.
func connectAll(many, abreast int, connect func() (net.Conn, error)) (made idlers, err error) {
	made = make(idlers, many)
	var next atomic.Int64
	var group errgroup.Group
	for range abreast {
		group.Go(func() (err error) {
			for i := next.Add(1) - 1; i < int64(many) && err == nil; i = next.Add(1) - 1 {
				made[i], err = connect()
			}
			return err
		})
	}
	return made, group.Wait()
}
