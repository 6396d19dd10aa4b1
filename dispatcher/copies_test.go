package dispatcher_test

import (
	"slices"
	"testing"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// An event that is in the log twice is delivered once.
func TestCopyOfAnEvent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		w.endpoint("http://a")
		ev := event.Event{ID: "once", Type: "test.event", Timestamp: time.Now(), Environment: event.Live, Org: "org",
			Audience: event.Audience{Orgs: []string{"org"}}, Key: "org", Data: []byte(`{}`), Claim: event.Claim{ID: event.ClaimID{1}}}
		for _, index := range []uint16{0, 1, 0} {
			ev.Claim.Index = index
			if ev.ID = "once"; index == 1 {
				ev.ID = "another"
			}
			r := eventlog.Record{Partition: eventlog.Partition{Topic: event.Live.Topic()}, Value: ev.AppendRecord(nil)}
			if _, err := w.log.Append(t.Context(), []eventlog.Record{r}); err != nil {
				t.Fatal(err)
			}
			sleep(time.Second)
		}
		if got := ids(w.of("http://a")); !slices.Equal(got, []string{"once", "another"}) {
			t.Errorf("%v came", got)
		}
		// Nor does a start between the two copies repeat it.
		w.stop()
		w.start()
		r := eventlog.Record{Partition: eventlog.Partition{Topic: event.Live.Topic()}, Value: ev.AppendRecord(nil)}
		if _, err := w.log.Append(t.Context(), []eventlog.Record{r}); err != nil {
			t.Fatal(err)
		}
		sleep(time.Second)
		if got := ids(w.of("http://a")); len(got) != 2 {
			t.Errorf("after a start between two copies %v came", got)
		}
		w.stop()
	})
}
