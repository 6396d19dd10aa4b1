package main

import (
	"context"
	"os"

	"sluice/loadtest/drive"
)

// loadProcCmd is one of several processes that make a load: sluice loadtest, which is the
// first of them, starts it, and says the rest on its standard input.
type loadProcCmd struct{}

// tableFile is what it gets of the first process beside standard input and output.
const tableFile = 3

func (loadProcCmd) Run(ctx context.Context, s std) error {
	return drive.Join(ctx, s.In, s.Out, os.NewFile(tableFile, "what there is of events"), callsOf)
}
