package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"sluice/dispatcher/lane"
	"sluice/pkg/delivery"
	"sluice/pkg/eventlog"
)

// TestLaneSkip: the operator's word comes into the lane's log. What a lane makes of
// it is the dispatcher's to test.
func TestLaneSkip(t *testing.T) {
	n := startStory(t, nodeConfig{})
	skip := func(args ...string) (string, int) {
		var said bytes.Buffer
		args = append([]string{"lane", "skip", "--ops", strings.TrimPrefix(n.OpsURL(), "http://"), "--admin-token", n.AdminToken()}, args...)
		code := run(context.Background(), args, std{In: strings.NewReader(""), Out: &said, Err: &said})
		return said.String(), code
	}
	if _, code := skip("3"); code != 1 {
		t.Errorf("without being asked: exit code %d", code)
	}
	if _, code := skip("16", "--yes"); code != 1 {
		t.Errorf("lane 16: exit code %d", code)
	}
	if said, code := skip("3", "--yes"); code != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}
	words := 0
	p := eventlog.Partition{Topic: delivery.LanesTopic, Number: 3}
	from, _, err := n.log.Bounds(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	records, err := n.log.Read(t.Context(), p, from, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if bytes.Equal(records[i].Value, lane.SkipRecord()) {
			words++
		}
	}
	if words != 1 {
		t.Errorf("%d words came into the log, want 1", words)
	}
}
