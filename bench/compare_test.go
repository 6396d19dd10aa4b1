package bench

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// measured is a run of a row in which the floor spent these CPU times, and the product
// so many times more.
func measured(what string, floor, times []float64) *Result {
	r := RowResult{Name: "row", What: what}
	for i, f := range floor {
		r.Floor = append(r.Floor, Round{CPU: f})
		r.Sluice = append(r.Sluice, Round{CPU: f * times[i]})
	}
	return &Result{Rows: []RowResult{r}}
}

// A row is judged by how many times the floor it spends, and one that chance may have
// set apart is the same.
func TestCompare(t *testing.T) {
	calm, busy := []float64{1, 1.01, 0.99, 1, 1}, []float64{1.5, 1.9, 1.6, 2.5, 1.7}
	before := []float64{3, 3.05, 2.98, 3.02, 3.01}
	for _, c := range []struct {
		name       string
		floor, now []float64
		want       Verdict
	}{
		{"nothing changed", calm, before, Same},
		{"the machine is busier", busy, before, Same},
		{"it spends a tenth more", calm, []float64{3.3, 3.31, 3.29, 3.35, 3.4}, Worse},
		{"it spends a tenth more, and the machine is busier", busy, []float64{3.3, 3.31, 3.29, 3.35, 3.4}, Worse},
		{"it spends a tenth less", calm, []float64{2.7, 2.71, 2.69, 2.75, 2.65}, Better},
		{"one round is strange", calm, []float64{3, 3.04, 2.99, 9, 3.01}, Same},
		{"rounds that overlap", calm, []float64{3.3, 3.31, 3.0, 3.35, 3.4}, Same},
		{"apart, and by next to nothing", calm, []float64{3.06, 3.07, 3.06, 3.055, 3.06}, Same},
		{"four rounds", calm[:4], []float64{4, 4, 4, 4}, TooFew},
	} {
		got := Compare(measured("w", calm, before), measured("w", c.floor, c.now))[0]
		if got.Verdict != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	for says, c := range map[string][2]*Result{
		"no floor":     {measured("w", nil, nil), measured("w", calm, before)},
		"other work":   {measured("v", calm, before), measured("w", calm, before)},
		"wasn't measu": {{}, measured("w", calm, before)},
	} {
		if got := Compare(c[0], c[1])[0]; got.Verdict != Unknown || !strings.Contains(got.Why, says) {
			t.Errorf("%s: %+v", says, got)
		}
	}
}

// How probable an order of ranks is can be counted by drawing lots, too.
func TestChance(t *testing.T) {
	if got := chance([]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}); math.Abs(got-2.0/252) > 1e-12 {
		t.Errorf("five below five: %v", got)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	a, b := []float64{1, 2, 4, 7}, []float64{3, 5, 6, 8, 9, 10}
	apart := func(of, rest []float64) float64 {
		u := 0.0
		for _, x := range of {
			for _, y := range rest {
				if x > y {
					u++
				}
			}
		}
		return min(u, 24-u)
	}
	all, hits := append(append([]float64{}, a...), b...), 0
	const lots = 20_000
	for range lots {
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if apart(all[:4], all[4:]) <= apart(a, b) {
			hits++
		}
	}
	if got, drawn := chance(a, b), float64(hits)/lots; math.Abs(got-drawn) > 0.01 {
		t.Errorf("%v, and %v by lots", got, drawn)
	}
}
