package report

import (
	"fmt"
	"time"

	"sluice/bench"
)

func ofBench(r *bench.Result) (section, error) {
	s := section{Title: "Bench", OK: true, Facts: []string{r.Began.UTC().Format(time.DateTime) + " UTC", "Machine: " + r.Machine.String()}}
	if m := r.Machine; m.CPULimit != "" || m.MemLimit != "" || m.OpenFiles > 0 {
		s.Facts = append(s.Facts, fmt.Sprintf("Limits: CPU %s, memory %s, %d open files", orNone(m.CPULimit), orNone(m.MemLimit), m.OpenFiles))
	}
	s.Notes = []string{"The floor is a bare program that does the same work and nothing else, on the same machine, in turns with sluice. CPU time is what counts: on a machine that is shared, rates and latencies tell of the neighbours, too."}
	t := table{Title: fmt.Sprintf("Medians of %d rounds, of CPU time with the least and the most", most(r.Rows)), Rows: [][]string{{"Row", "CPU time in", "floor", "sluice", "times the floor", "rate/s", "p50 ms", "p99 ms", "RSS MB"}}}
	words := table{Title: "What the rows do", Words: true, Rows: [][]string{{"Row", "Work"}}}
	figures := table{Title: "What else they measure: medians (least–most)", Words: true, Rows: [][]string{{"Row", "Figure", "Sluice"}}}
	var names []string
	var times [][]float64
	for _, row := range r.Rows {
		words.Rows = append(words.Rows, []string{row.Name, row.What})
		for i, f := range row.Sluice[0].Figures {
			v := bench.SpreadOf(each(row.Sluice, func(r bench.Round) float64 { return r.Figures[i].Value }))
			figures.Rows = append(figures.Rows, []string{row.Name, f.Name, spread(v)})
		}
		if len(row.Floor) == 0 {
			continue
		}
		cpu := func(r bench.Round) float64 { return r.CPU }
		med := func(get func(bench.Round) float64) string { return dash(bench.SpreadOf(each(row.Sluice, get)).Median) }
		multiple := "–"
		if all := row.Floors(); all != nil {
			names, times = append(names, row.Name), append(times, all)
			multiple = spread(bench.SpreadOf(all))
		}
		t.Rows = append(t.Rows, []string{row.Name, row.Unit, spread(bench.SpreadOf(each(row.Floor, cpu))), spread(bench.SpreadOf(each(row.Sluice, cpu))), multiple,
			med(func(r bench.Round) float64 { return r.Rate }), med(func(r bench.Round) float64 { return r.P50 }), med(func(r bench.Round) float64 { return r.P99 }),
			med(func(r bench.Round) float64 { return r.RSS })})
	}
	for _, t := range []table{t, figures, words} {
		if len(t.Rows) > 1 {
			s.Tables = append(s.Tables, t)
		}
	}
	if len(names) == 0 {
		return s, nil
	}
	p, err := dots("CPU time, times the floor: each round", names, times)
	s.Plots = append(s.Plots, p)
	return s, err
}

// most is how many rounds rows have; one that was ended may have less.
func most(rows []bench.RowResult) (rounds int) {
	for _, r := range rows {
		rounds = max(rounds, len(r.Sluice))
	}
	return rounds
}

func each(rounds []bench.Round, get func(bench.Round) float64) (values []float64) {
	for _, r := range rounds {
		values = append(values, get(r))
	}
	return values
}

func spread(v bench.Spread) string {
	if v.Min == v.Max {
		return number(v.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(v.Median), number(v.Min), number(v.Max))
}

func orNone(limit string) string {
	if limit == "" {
		return "none"
	}
	return limit
}
