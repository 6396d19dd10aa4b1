package eventlogtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

// The log in memory lives in virtual time: its clock is the bubble's, and its
// retention trims after days that pass at once.
func TestMemInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := eventlog.Partition{Topic: "a"}
		l := eventlogtest.Mem(t, eventlog.Topic{Name: "a", Partitions: 1, Retention: 24 * time.Hour})
		tail, err := l.Tail(t.Context(), p, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		for i := range 3 {
			at := time.Now()
			offsets, err := l.Append(t.Context(), []eventlog.Record{{Partition: p, Value: []byte("x")}})
			if err != nil || len(offsets) != 1 || offsets[0] != int64(i) {
				t.Fatalf("offsets %v, %v", offsets, err)
			}
			got, err := tail.Next(t.Context())
			if err != nil || len(got) != 1 || !got[0].Time.Equal(at.Truncate(time.Millisecond)) {
				t.Fatalf("%+v, %v; want one record of %v", got, err, at)
			}
			time.Sleep(10 * time.Hour)
		}
		time.Sleep(time.Hour)
		if start, end, err := l.Bounds(context.Background(), p); start != 1 || end != 3 || err != nil {
			t.Fatalf("after 31 hours: %d to %d, %v", start, end, err)
		}
	})
}
