package index_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"sluice/pkg/attempts"
	"sluice/pkg/attempts/attemptstest"
	"sluice/pkg/attempts/index"
)

func TestSuite(t *testing.T) {
	t.Run("embedded", func(t *testing.T) {
		disks := make(map[*testing.T]vfs.FS)
		attemptstest.Run(t, func(t *testing.T) attempts.Store {
			if disks[t] == nil {
				disks[t] = vfs.NewMem()
			}
			s, err := index.Open(index.Config{Dir: "index", FS: disks[t]})
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}
