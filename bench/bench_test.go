package bench

import (
	"context"
	"reflect"
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
		result, err := Run(t.Context(), Config{Rows: c.named, Rounds: 1, Out: &out})
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, r := range result.Rows {
			have = append(have, r.Name)
			if want := []Round{{Figures: []Figure{{"of " + r.Name, 1}}}}; !reflect.DeepEqual(r.Sluice, want) || r.Floor != nil {
				t.Errorf("%s gave %+v", r.Name, r)
			}
		}
		if !slices.Equal(ran, c.want) || !slices.Equal(have, c.want) || !strings.HasSuffix(out.String(), "\n\n"+c.says) {
			t.Errorf("%v: %v ran, and it said\n%s", c.named, ran, out.String())
		}
	}
}
