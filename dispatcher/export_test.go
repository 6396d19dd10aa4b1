package dispatcher

import "time"

// PerLane bounds the requests of each lane that are under way, before Run: to
// fill one takes fewer endpoints then.
func (d *Dispatcher) PerLane(n int) { d.lane.PerLane = n }

// HeldFor is after how long what is held expires, before Run; 0: as in production.
func (d *Dispatcher) HeldFor(after time.Duration) { d.lane.HeldFor = after }
