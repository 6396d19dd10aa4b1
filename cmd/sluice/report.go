package main

import (
	"bytes"
	"fmt"
	"os"

	"sluice/loadtest/report"
)

// reportCmd makes a page of runs.
type reportCmd struct {
	Out      string   `default:"report.html" type:"path" placeholder:"FILE" help:"Write the page there. Default: ${default}."`
	Markdown bool     `help:"Print the tables as Markdown, and make no page."`
	Files    []string `arg:"" type:"existingfile" placeholder:"FILE" help:"What loadtest --json or bench --json wrote."`

	parts []report.Part
}

// Help is shown by sluice report --help.
func (reportCmd) Help() string {
	return `Makes one HTML file of one run or several: what ran, on what machine, tables, plots and verdicts, and what is known of others,
with its source. It needs no network and no script, and can be printed.

Examples:

    sluice report crowd.json
    sluice report bench.json crowd.json --out measured.html
    sluice report bench.json --markdown`
}

// Validate reads the files.
func (c *reportCmd) Validate() error {
	for _, path := range c.Files {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		part, err := report.Parse(text)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		c.parts = append(c.parts, part)
	}
	return nil
}

func (c *reportCmd) Run(s std) error {
	if c.Markdown {
		return report.Markdown(s.Out, c.parts...)
	}
	return writeReport(c.Out, c.parts...)
}

// writeReport writes a page.
func writeReport(path string, parts ...report.Part) error {
	var page bytes.Buffer
	if err := report.Write(&page, parts...); err != nil {
		return err
	}
	return os.WriteFile(path, page.Bytes(), 0o644)
}
