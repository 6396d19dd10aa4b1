package bench

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// A row that takes long, or that needs more than this machine, is measured where it
// is named, and told of where none is.
func TestWhichRowsRun(t *testing.T) {
	before := rows
	defer func() { rows = before }()
	var ran []string
	measure := func(name string) func(context.Context, *Config) ([]figure, error) {
		return func(context.Context, *Config) ([]figure, error) {
			ran = append(ran, name)
			return []figure{{"of " + name, 1}}, nil
		}
	}
	rows = []row{{name: "quick", figures: measure("quick")}, {name: "slow", unasked: "it is slow", figures: measure("slow")}}
	for _, c := range []struct {
		named, want []string
		says        string
	}{
		{nil, []string{"quick"}, "Not measured unless named: slow (it is slow).\n"},
		{[]string{"slow"}, []string{"slow"}, ""},
		{[]string{"slow", "quick"}, []string{"quick", "slow"}, ""},
	} {
		var out strings.Builder
		ran = nil
		if err := Run(t.Context(), Config{Rows: c.named, Rounds: 1, Out: &out}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(ran, c.want) || !strings.HasSuffix(out.String(), "\n\n"+c.says) {
			t.Errorf("%v: %v ran, and it said\n%s", c.named, ran, out.String())
		}
	}
}
