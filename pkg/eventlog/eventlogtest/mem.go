// Package eventlogtest holds what tests of and on the log need: the suite that
// every log passes, a log in memory, and a Kafka broker.
//
//	mem.go      Mem: the embedded log without a disk
//	suite.go    Run: what every log must do
//	broker.go   Brokers, Kafka: a real broker, from wherever one can be had
package eventlogtest

import (
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/embedded"
)

// Mem opens the embedded log in memory and closes it when the test ends. In a
// synctest bubble its clock is the virtual one, and it is closed inside. Closing
// it twice does no harm.
func Mem(t testing.TB, topics ...eventlog.Topic) eventlog.Log {
	t.Helper()
	l, err := embedded.Open(t.Context(), embedded.Config{
		Dir:    "mem",
		Topics: topics,
		Logger: slog.New(slog.DiscardHandler),
		FS:     vfs.NewMem(),
	})
	if err != nil {
		t.Fatalf("the log in memory: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("closing the log in memory: %v", err)
		}
	})
	return l
}
