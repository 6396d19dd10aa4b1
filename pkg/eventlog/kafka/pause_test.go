package kafka

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"sluice/pkg/eventlog"
)

// A reader that makes room before its partition is paused, though that was decided,
// doesn't leave it paused for good.
func TestRoomBeforeThePause(t *testing.T) {
	client, err := kgo.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	l := &Log{ctx: context.Background()}
	y := &layer{log: l, client: client}
	p := eventlog.Partition{Topic: "a"}
	tl := &tail{log: l, p: p, layer: y, news: make(chan struct{}, 1)}
	if !tl.push([]*kgo.Record{{Value: make([]byte, tailBytes)}}) {
		t.Fatal("nothing to pause for")
	}
	if records, err := tl.take(t.Context()); len(records) != 1 || err != nil {
		t.Fatal(records, err)
	}
	client.PauseFetchPartitions(y.partition(p))
	tl.paused()
	if left := client.PauseFetchPartitions(nil); len(left) > 0 {
		t.Errorf("%v stays paused", left)
	}
}
