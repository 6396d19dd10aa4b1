package drive

import (
	"context"
	"time"

	"sluice/loadtest/ledger"
)

const (
	lookEvery = 500 * time.Millisecond
	// quiet is how long no webhook may have come before the deployment is asked what
	// it still owes: else it would be asked for what is just on its way.
	quiet = 3 * time.Second
)

// settle waits until everything that is owed has come to all processes, or is said to
// be owed for a reason, or r.patience ends; then it gives the verdict of this one.
func (r *run) settle(ctx context.Context, forgo context.CancelFunc) *ledger.Report {
	r.wait(ctx, forgo)
	r.peers.arrive(ctx, settled)
	if r.Fleet != nil {
		r.nemesis.Stalls(r.Fleet.Nodes)
	}
	r.peers.leave(ctx, settled)
	return r.book.Check()
}

func (r *run) wait(ctx context.Context, forgo context.CancelFunc) {
	close(r.settled)
	r.calm = time.Now()
	defer forgo()
	last, since := -1, time.Now()
	for {
		report, over := r.book.Check(), r.patience.Err() != nil
		if report.Count[ledger.Lost]+report.Count[ledger.Hole]+report.NotKnown == 0 {
			return
		}
		if report.Attempts != last {
			last, since = report.Attempts, time.Now()
		}
		if over || time.Since(since) > quiet {
			r.admit(ctx, over)
			since = time.Now()
		}
		if over {
			return
		}
		pause(r.patience, lookEvery)
	}
}
