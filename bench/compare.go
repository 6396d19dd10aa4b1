package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Verdict says how a row stands to what it was before.
type Verdict string

// What can be said of a row.
const (
	Better Verdict = "better"
	Worse  Verdict = "worse"
	Same   Verdict = "the same"
	// TooFew says that so few rounds differ that much by chance.
	TooFew Verdict = "too few rounds to say"
	// Unknown says that the row has no floor, or wasn't measured before, or otherwise.
	Unknown Verdict = "not comparable"
)

// When rows differ: by chance alone their rounds would lie as far apart in less than
// this share of all runs, and their medians are apart by more than that share.
const (
	byChance = 0.01
	nobodys  = 0.02
)

// Change is a row beside what it was before.
type Change struct {
	Row           string
	Before, After Spread  // how many times the floor
	Chance        float64 // that rounds of one program lie so far apart
	Verdict       Verdict
	Why           string // it isn't comparable; else empty
}

// Compare holds the CPU time of each row against what it was.
//
// The measure of a round is how many times the CPU time of its floor the product
// spent. Both ran next to each other: so a machine that is faster, hotter or busier
// than the other time makes no difference as far as it makes none between the two.
// Rounds are compared by their ranks (Mann and Whitney's test, counted exactly, not
// approximated), which asks nothing of how they are spread, and which one strange
// round moves little. Latencies and rates aren't judged: on a machine that is shared
// they tell of the neighbours.
func Compare(before, after *Result) (all []Change) {
	for i := range after.Rows {
		all = append(all, change(before, &after.Rows[i]))
	}
	return all
}

func change(before *Result, now *RowResult) Change {
	c := Change{Row: now.Name, Verdict: Unknown, Chance: 1}
	i := slices.IndexFunc(before.Rows, func(r RowResult) bool { return r.Name == now.Name })
	if i < 0 {
		c.Why = "it wasn't measured then"
		return c
	}
	then := &before.Rows[i]
	old, young := then.Floors(), now.Floors()
	switch {
	case then.What != now.What || then.Unit != now.Unit:
		c.Why = "it was other work then: " + then.What
		return c
	case len(old) == 0 || len(young) == 0:
		c.Why = "it has no floor"
		return c
	}
	c.Before, c.After, c.Chance = SpreadOf(old), SpreadOf(young), chance(old, young)
	least := 2 / binomial(len(old)+len(young), len(old))
	switch apart := c.After.Median/c.Before.Median - 1; {
	case least > byChance:
		c.Verdict = TooFew
	case c.Chance > byChance || math.Abs(apart) < nobodys:
		c.Verdict = Same
	case apart < 0:
		c.Verdict = Better
	default:
		c.Verdict = Worse
	}
	return c
}

// chance is how probable it is that rounds of one and the same program lie at least as
// far apart as these: both ways, and one that two have alike counts half.
func chance(a, b []float64) float64 {
	u := 0.0
	for _, x := range a {
		for _, y := range b {
			switch cmp.Compare(x, y) {
			case 1:
				u++
			case 0:
				u += 0.5
			}
		}
	}
	u = min(u, float64(len(a)*len(b))-u)
	below := 0.0
	for i, n := range orders(len(a), len(b)) {
		if float64(i) <= u {
			below += n
		}
	}
	return min(1, 2*below/binomial(len(a)+len(b), len(a)))
}

// orders counts in how many of the orders of n and m rounds so many pairs are the
// other way round, for each number of pairs: what Gauss' binomial has as coefficients.
func orders(n, m int) []float64 {
	count := make([]float64, n*m+1)
	count[0] = 1
	for k := 1; k <= n; k++ {
		for i := n * m; i >= m+k; i-- {
			count[i] -= count[i-m-k]
		}
		for i := k; i <= n*m; i++ {
			count[i] += count[i-k]
		}
	}
	return count
}

func binomial(n, k int) float64 {
	b := 1.0
	for i := range k {
		b *= float64(n-i) / float64(i+1)
	}
	return math.Round(b)
}

func (s Spread) String() string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Min, s.Max)
}
