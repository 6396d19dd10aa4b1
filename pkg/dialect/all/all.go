// Package all is the list of dialects.
package all

import (
	"sluice/pkg/dialect"
	"sluice/pkg/dialect/marketplace"
	"sluice/pkg/dialect/quub"
	"sluice/pkg/dialect/standardwebhooks"
	"sluice/pkg/dialect/tempo"
	"sluice/pkg/dialect/tenzro"
	"sluice/pkg/dialect/tetrafi"
)

// Dialects lists every dialect, in the order in which they are served.
var Dialects = []*dialect.Dialect{
	tetrafi.Dialect,
	marketplace.Dialect,
	tenzro.Dialect,
	quub.Dialect,
	tempo.Dialect,
	standardwebhooks.Dialect,
}

// ByName gives the dialect of an endpoint, or nil.
func ByName(name string) *dialect.Dialect {
	for _, d := range Dialects {
		if d.Name == name {
			return d
		}
	}
	return nil
}
