package dispatcher

import (
	"context"
	"fmt"

	"sluice/dispatcher/lane"
	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// Skip is an operator's word that the lane may go on from what the log has left:
// where it stands is gone. It says so to the lane's owner, in this process or
// another, which sees it when it tries again, within half a minute. A lane that has
// lost nothing isn't changed by it.
func Skip(ctx context.Context, log eventlog.Appender, number int32) error {
	r := eventlog.Record{Partition: eventlog.Partition{Topic: delivery.LanesTopic, Number: number}, Value: lane.SkipRecord()}
	if _, err := log.Append(ctx, []eventlog.Record{r}); err != nil {
		return fmt.Errorf("tell lane %d: %w", number, err)
	}
	return nil
}
