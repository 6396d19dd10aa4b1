package drive

import (
	"context"
	"errors"
	"net"
	"strconv"
)

// share is which part of a run is this process's: of publishers, every so-manieth
// request; of streams and receivers, every so-manieth of a kind.
type share struct {
	number, of int // from 0
}

// MostProcesses is how many can share a run.
const MostProcesses = 64

// has says whether one of those that are shared out is this process's.
func (s share) has(i int) bool { return i%s.of == s.number }

// part is this process's part of a number; at least 1.
func (s share) part(n int) int { return max(1, (n+s.of-1-s.number)/s.of) }

// beside gives an address of this process's own, whose port is as much higher as its
// number is.
func (s share) beside(address string) string {
	host, text, err := net.SplitHostPort(address)
	port, bad := strconv.Atoi(text)
	if err != nil || bad != nil || port == 0 {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(port+s.number))
}

// stage is what all processes of a run come to before any goes on.
type stage int

const (
	inPlace   stage = iota + 1 // whoever is to see what is published
	peaceful                   // nothing is published or broken any more
	published                  // what was is answered, or never will be
	settled                    // all is seen
	stages
)

// peers are the other processes of a run.
type peers interface {
	// arrive says that this process has come to a stage; in the first it returns when
	// the others have, too.
	arrive(context.Context, stage) error
	// leave returns when the first process, which has left the stage, has all go on.
	leave(context.Context, stage) error
}

// meet returns when all processes have come to a stage.
func (r *run) meet(ctx context.Context, at stage) error {
	return errors.Join(r.peers.arrive(ctx, at), r.peers.leave(ctx, at))
}

// alone are the peers of a process that has none.
type alone struct{}

func (alone) arrive(context.Context, stage) error { return nil }
func (alone) leave(context.Context, stage) error  { return nil }
