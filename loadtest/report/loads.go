package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/loadtest/drive"
)

func ofLoad(r *drive.Result) (section, error) {
	s := section{Title: "Load: " + r.Name, OK: r.Verdict.OK, Verdict: strings.TrimSpace(r.Verdict.String())}
	s.Facts = append(s.Facts,
		fmt.Sprintf("Run %s, seed %d, %s UTC: published for %v at %s; keys: %d", r.Run, r.Seed, r.Began.UTC().Format(time.DateTime),
			time.Duration(r.Published*float64(time.Second)).Round(100*time.Millisecond), r.URL, r.Orgs),
		"Client: "+r.Machine)
	if r.Interrupted {
		s.Notes = append(s.Notes, "It was ended early: figures are of what was seen until then.")
	}
	s.Notes = append(s.Notes, "Times count from when a request was due, whether it could be sent then or not.")
	for _, limit := range r.Client.Limits {
		s.Notes = append(s.Notes, "The client was the limit: "+limit+". Times are its own, too.")
	}
	for _, text := range slices.Sorted(maps.Keys(r.Notes)) {
		s.Notes = append(s.Notes, fmt.Sprintf("%d× %s", r.Notes[text], text))
	}
	s.Tables = loadTables(r)
	for _, draw := range []func(*drive.Result) (plotted, bool, error){rates, published, streamed, delivered, quantiles, client, processors, memory, lag} {
		p, any, err := draw(r)
		if err != nil {
			return s, err
		}
		if any {
			s.Plots = append(s.Plots, p)
		}
	}
	return s, nil
}

func loadTables(r *drive.Result) (all []table) {
	times := []string{"p50 ms", "p90", "p99", "p99.9", "max"}
	of := func(q drive.Quantiles) []string {
		return []string{number(q.P50), number(q.P90), number(q.P99), number(q.P999), number(q.Max)}
	}
	t := table{Title: "Published", Rows: [][]string{append([]string{"Publisher", "wanted/s", "rate/s", "acknowledged", "again", "unsent"}, times...)}}
	for _, p := range r.Publishers {
		t.Rows = append(t.Rows, append([]string{p.Name, number(p.Wanted), number(p.Rate), count(p.Acknowledged), count(p.Retries), count(int64(p.Due) - p.Sent)}, of(p.Times)...))
	}
	all = append(all, t)
	if len(r.Streams) > 0 {
		t = table{Title: "Streamed", Rows: [][]string{append([]string{"Streams", "clients", "connected", "events", "rate/s"}, times...)}}
		for _, p := range r.Streams {
			t.Rows = append(t.Rows, append([]string{p.Name + " (" + p.Kind + ")", count(int64(p.Connections)), count(p.Connects), count(p.Events), number(p.Rate)}, of(p.Times)...))
		}
		all = append(all, t)
	}
	if len(r.Receivers) > 0 {
		t = table{Title: "Delivered", Rows: [][]string{append([]string{"Receivers", "endpoints", "requests", "rate/s", "refused", "repeats", "owed"}, times...)}}
		for _, p := range r.Receivers {
			t.Rows = append(t.Rows, append([]string{p.Name, count(int64(p.Endpoints)), count(p.Requests), number(p.Rate), count(int64(p.Refused)), count(int64(p.Repeats)), count(int64(p.Owed))},
				of(p.Times)...))
		}
		all = append(all, t)
	}
	if len(r.Servers) > 0 {
		t = table{Title: "Processes of the deployment", Rows: [][]string{{"Process", "processors", "at most", "memory MB, at most", "webhooks late by ms, at most", "unanswered"}}}
		for _, s := range r.Servers {
			sum := s.Sum()
			t.Rows = append(t.Rows, []string{s.Name(), number(sum.CPU), number(sum.CPUPeak), number(sum.RSS), number(sum.Webhooks), count(int64(s.Unanswered))})
		}
		all = append(all, t)
	}
	if sums := r.FaultSums(); len(sums) > 0 {
		t = table{Title: "Broken", Rows: [][]string{{"Fault", "of", "times", "median s until ready", "longest"}}}
		for _, f := range sums {
			t.Rows = append(t.Rows, []string{f.What, f.Whom, count(int64(f.Times)), number(f.Median), number(f.Longest)})
		}
		all = append(all, t)
	}
	if len(r.Clients) > 0 {
		t = table{Title: "Processes that made the load; times are how late timers were", Rows: [][]string{{"Process", "CPU %", "at most", "p50 ms", "p99", "max"}}}
		for i, c := range r.Clients {
			t.Rows = append(t.Rows, []string{strconv.Itoa(i + 1), number(100 * c.CPU), number(100 * c.CPUPeak), number(c.TimersLate.P50), number(c.TimersLate.P99), number(c.TimersLate.Max)})
		}
		all = append(all, t)
	}
	v := r.Verdict
	return append(all, table{Title: "Account", Rows: [][]string{
		{"Events sent", "acknowledged", "streamed", "declared missing", "deliveries", "arrived", "owed", "not known", "came again"},
		{count(int64(v.Sent)), count(int64(v.Acknowledged)), count(int64(v.Streamed)), count(int64(v.Declared)), count(int64(v.Deliveries)), count(int64(v.Delivered)),
			count(int64(v.StillOwed)), count(int64(v.NotKnown)), count(int64(v.Repeats))}}})
}

// drawn are the seconds that lines go over. The run's end cuts the last: a rate of what is
// left of it would be one of milliseconds.
func drawn(r *drive.Result) []drive.Second {
	if n := len(r.Seconds); n > 1 && r.Seconds[n-1].At-r.Seconds[n-2].At < 0.5 {
		return r.Seconds[:n-1]
	}
	return r.Seconds
}

// over gives a figure of each second's lap.
func over(r *drive.Result, lap func(drive.Second) *drive.Lap, figure func(*drive.Lap) float64) (line []point) {
	for _, s := range drawn(r) {
		if l := lap(s); l != nil {
			line = append(line, point{s.At, figure(l)})
		}
	}
	return line
}

var (
	lapPublished = func(s drive.Second) *drive.Lap { return s.Published }
	lapStreamed  = func(s drive.Second) *drive.Lap { return s.Streamed }
	lapDelivered = func(s drive.Second) *drive.Lap { return s.Delivered }
)

func rates(r *drive.Result) (plotted, bool, error) {
	rate := func(l *drive.Lap) float64 { return l.Rate }
	return lines("Events a second", "s", false,
		series{"published", over(r, lapPublished, rate)}, series{"streamed", over(r, lapStreamed, rate)}, series{"delivered", over(r, lapDelivered, rate)})
}

func latency(r *drive.Result, title string, lap func(drive.Second) *drive.Lap) (plotted, bool, error) {
	return lines(title, "s", true,
		series{"p50", over(r, lap, func(l *drive.Lap) float64 { return l.P50 })},
		series{"p99", over(r, lap, func(l *drive.Lap) float64 { return l.P99 })},
		series{"max", over(r, lap, func(l *drive.Lap) float64 { return l.Max })})
}

func published(r *drive.Result) (plotted, bool, error) {
	return latency(r, "Until acknowledged, ms", lapPublished)
}

func streamed(r *drive.Result) (plotted, bool, error) {
	return latency(r, "Until streamed, ms", lapStreamed)
}

func delivered(r *drive.Result) (plotted, bool, error) {
	return latency(r, "Until delivered, ms", lapDelivered)
}

func client(r *drive.Result) (plotted, bool, error) {
	var line []point
	for _, s := range drawn(r) {
		line = append(line, point{s.At, 100 * s.CPU})
	}
	return lines("The client's CPU, percent of its processors", "s", false, series{"", line})
}

// ofServers draws a figure of each process.
func ofServers(r *drive.Result, title string, figure func(drive.Sample) float64) (plotted, bool, error) {
	var all []series
	for _, s := range r.Servers {
		line := series{name: s.Name()}
		for _, a := range s.Samples {
			line.points = append(line.points, point{a.At, figure(a)})
		}
		all = append(all, line)
	}
	return lines(title, "s", false, all...)
}

func processors(r *drive.Result) (plotted, bool, error) {
	return ofServers(r, "Processors that each process used", func(s drive.Sample) float64 { return s.CPU })
}

func memory(r *drive.Result) (plotted, bool, error) {
	return ofServers(r, "Memory of each process, MB", func(s drive.Sample) float64 { return s.RSS })
}

// lag has the process that is behind most, in each second.
func lag(r *drive.Result) (plotted, bool, error) {
	worst := func(figure func(drive.Sample) float64) (line []point) {
		most := make(map[float64]float64)
		for _, s := range r.Servers {
			for _, a := range s.Samples {
				at := math.Round(a.At)
				most[at] = max(most[at], figure(a))
			}
		}
		for _, at := range slices.Sorted(maps.Keys(most)) {
			line = append(line, point{at, most[at]})
		}
		return line
	}
	return lines("Behind in the deployment, ms", "s", false,
		series{"oldest for webhooks", worst(func(s drive.Sample) float64 { return s.Webhooks })},
		series{"streams, on average", worst(func(s drive.Sample) float64 { return s.Streams })})
}

// quantiles has a line for everybody who is timed, up to as many as there are colours.
func quantiles(r *drive.Result) (plotted, bool, error) {
	var all []series
	add := func(name string, q drive.Quantiles) {
		if q.Count > 0 {
			all = append(all, series{name, []point{{0, q.P50}, {1, q.P90}, {2, q.P99}, {3, q.P999}, {4, q.Max}}})
		}
	}
	for _, p := range r.Publishers {
		add(p.Name, p.Times)
	}
	for _, p := range r.Streams {
		add(p.Name, p.Times)
	}
	for _, p := range r.Receivers {
		add(p.Name, p.Times)
	}
	return steps("Quantiles, ms", []string{"p50", "p90", "p99", "p99.9", "max"}, all)
}
