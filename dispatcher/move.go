package dispatcher

import (
	"context"

	"sluice/dispatcher/lane"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Move brings what all lanes owe into another log, which nobody uses yet, and
// tells of each. The dispatcher's own log is only read, and nobody may be working
// on it. place gives the offset there of an event of here.
func (d *Dispatcher) Move(ctx context.Context, to eventlog.Appender, place func(env event.Environment, offset int64) int64, each func(number int32, moved lane.Moved)) error {
	for number := range int32(delivery.Lanes) {
		m := lane.Move{To: to, Place: place}
		if int(number) < len(event.Environments) {
			m.FanOut = event.Environments[number]
		}
		moved, err := lane.MoveLane(ctx, d.lane, number, m)
		if err != nil {
			return err
		}
		each(number, moved)
	}
	return nil
}
