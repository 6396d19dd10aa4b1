// Package report makes a page of what was measured: one HTML file that needs nothing
// else, no network and no script, for a screen of any width, by day and by night, and
// for paper.
//
//	sluice loadtest --json ─► drive.Result ─┐
//	sluice bench --json ────► bench.Result ─┼─► Write ─► page.html filled in, plots as SVG in it
//	rivals.json ────────────────────────────┘
//
// Markdown has the tables alone. Reading order: report.go loads.go benches.go;
// plot.go draws; page.html; markdown.go.
package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"time"

	"sluice/bench"
	"sluice/loadtest/drive"
)

// Part is one run: of a load, or of rows. One of both is nil.
type Part struct {
	Load  *drive.Result
	Bench *bench.Result
}

// Parse reads what `sluice loadtest --json` or `sluice bench --json` wrote.
func Parse(text []byte) (Part, error) {
	var which struct {
		Rows    json.RawMessage
		Verdict json.RawMessage
	}
	if err := json.Unmarshal(text, &which); err != nil {
		return Part{}, err
	}
	var p Part
	switch {
	case which.Verdict != nil:
		return p, json.Unmarshal(text, &p.Load)
	case which.Rows != nil:
		return p, json.Unmarshal(text, &p.Bench)
	}
	return p, errors.New("it has neither the verdict of a load nor rows of a bench: give a file that sluice loadtest --json or sluice bench --json wrote")
}

// section is one part of the page.
type section struct {
	Title   string
	OK      bool     // it holds; without a verdict, so it does
	Verdict string   // empty: there is none
	Facts   []string // what ran, and where
	Notes   []string // what to know of the figures
	Tables  []table
	Plots   []plotted
}

// table is rows of cells, the first row being titles. Cells but the first of a row are
// figures, and stand to the right, unless it is one of words.
type table struct {
	Title string
	Rows  [][]string
	Words bool
}

type plotted struct {
	Title string
	Keys  []key
	SVG   template.HTML
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

//go:embed rivals.json
var rivalsText []byte

// sections are what there is to say of some parts, and of others.
func sections(parts []Part) (all []section, err error) {
	for _, p := range parts {
		var s section
		if p.Load != nil {
			s, err = ofLoad(p.Load)
		} else {
			s, err = ofBench(p.Bench)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	rivals, err := theRivals()
	return append(all, rivals), err
}

// Write writes the page of some parts.
func Write(w io.Writer, parts ...Part) error {
	all, err := sections(parts)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := page.Execute(&out, struct {
		Made     string
		Sections []section
	}{time.Now().UTC().Format(time.DateTime), all}); err != nil {
		return fmt.Errorf("fill in the page: %w", err)
	}
	_, err = w.Write(out.Bytes())
	return err
}

// theRivals are figures of others, each with where it is from.
func theRivals() (section, error) {
	var list []struct{ Who, Work, Figure, Source string }
	if err := json.Unmarshal(rivalsText, &list); err != nil {
		return section{}, fmt.Errorf("rivals: %w", err)
	}
	t := table{Words: true, Rows: [][]string{{"Who", "What", "Figure", "Source"}}}
	for _, r := range list {
		t.Rows = append(t.Rows, []string{r.Who, r.Work, r.Figure, r.Source})
	}
	return section{Title: "Others", OK: true, Tables: []table{t},
		Notes: []string{"Machines, versions and work differ: only what is a multiple of its own floor can be held against the rows of a bench."}}, nil
}
