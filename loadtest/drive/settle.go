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

// settle waits until everything that is owed has come, or is said to be owed for a
// reason, or r.patience ends; then it gives the verdict.
func (r *run) settle(ctx context.Context, forgo context.CancelFunc) *ledger.Report {
	r.wait(ctx, forgo)
	if r.Fleet != nil {
		r.nemesis.Stalls(r.Fleet.Nodes)
	}
	return r.book.Check()
}

func (r *run) wait(ctx context.Context, forgo context.CancelFunc) {
	close(r.settled)
	r.calm = time.Now()
	defer forgo()
	last, since := -1, time.Now()
	for {
		report, over := r.book.Check(), r.patience.Err() != nil
		if report.Count[ledger.Lost]+report.Count[ledger.Hole] == 0 {
			return
		}
		if report.Attempts != last {
			last, since = report.Attempts, time.Now()
		}
		if over || time.Since(since) > quiet {
			if err := r.admit(ctx, over); err != nil {
				r.note(err.Error())
			}
			since = time.Now()
		}
		if over {
			return
		}
		pause(r.patience, lookEvery)
	}
}
