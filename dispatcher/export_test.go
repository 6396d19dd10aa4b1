package dispatcher

// PerLane bounds the requests of each lane that are under way, before Run: to
// fill one takes fewer endpoints then.
func (d *Dispatcher) PerLane(n int) { d.lane.PerLane = n }
