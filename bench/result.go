package bench

import (
	"slices"
	"time"
)

// Result is what a run of rows gave, and where. Its JSON is what another run is
// compared with.
type Result struct {
	Began   time.Time   `json:"began"`
	Machine Machine     `json:"machine"`
	Rows    []RowResult `json:"rows"`
}

// RowResult is what the rounds of one row gave, in their order: the round i of floor
// and product were next to each other.
type RowResult struct {
	Name   string  `json:"name"`
	What   string  `json:"what"`
	Unit   string  `json:"unit,omitempty"`  // of the CPU time
	Floor  []Round `json:"floor,omitempty"` // none: the row has no floor, and only Figures
	Sluice []Round `json:"sluice"`
}

// Round is what one round of one side gave. What the row doesn't measure is 0.
type Round struct {
	CPU     float64  `json:"cpu,omitempty"`   // in the row's unit
	Apart   float64  `json:"apart,omitempty"` // the same without ingest and log
	Rate    float64  `json:"rate,omitempty"`  // units of work a second
	P50     float64  `json:"p50Ms,omitempty"`
	P99     float64  `json:"p99Ms,omitempty"`
	RSS     float64  `json:"rssMB,omitempty"`
	Figures []Figure `json:"figures,omitempty"` // what else the row measures
}

// Figure is one number; its name begins with its unit.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

func (r *row) result(floor, product []sample) RowResult {
	return RowResult{Name: r.name, What: r.what, Unit: r.unit, Floor: rounds(floor), Sluice: rounds(product)}
}

func rounds(samples []sample) (all []Round) {
	for _, s := range samples {
		r := Round{CPU: s.cpu, Apart: s.apart, Rate: s.rate, P50: ms(s.p50), P99: ms(s.p99), RSS: s.rssMB}
		for _, f := range s.more {
			r.Figures = append(r.Figures, Figure{f.name, f.value})
		}
		all = append(all, r)
	}
	return all
}

// Spread is the least, the median and the most of some rounds.
type Spread struct {
	Min, Median, Max float64
}

// SpreadOf gives that of one figure or more.
func SpreadOf(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	return Spread{sorted[0], median(sorted), sorted[len(sorted)-1]}
}

// Floors gives how many times the floor's CPU time the product spent, round by round;
// nil: the row has no floor.
func (r *RowResult) Floors() (times []float64) {
	if len(r.Floor) != len(r.Sluice) {
		return nil
	}
	for i, f := range r.Floor {
		if f.CPU <= 0 { // less than the clock tells: the row is too short for this machine
			return nil
		}
		times = append(times, r.Sluice[i].CPU/f.CPU)
	}
	return times
}
