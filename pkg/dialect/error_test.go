package dialect_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/pkg/dialect"
)

func TestErrorsTellBackNoMoreThanHelps(t *testing.T) {
	long := strings.Repeat("é", 500_000)
	for name, path := range map[string][]string{
		"a long name": {"data", long},
		"a deep path": strings.Split(strings.Repeat("0.", 10_000), "."),
	} {
		e := &dialect.Error{Code: dialect.BadRequest, Message: "m", Issues: []dialect.Issue{{Path: path, Message: "is wrong"}}}
		out := e.AppendJSON(nil)
		var shown struct {
			Error struct{ Issues []struct{ Path []string } }
		}
		if err := json.Unmarshal(out, &shown); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p := shown.Error.Issues[0].Path
		if len(out) > 1000 || p[0] != path[0] || !strings.HasSuffix(p[len(p)-1], "…") || strings.Contains(string(out), "\uFFFD") {
			t.Errorf("%s: %d bytes: %.200s", name, len(out), out)
		}
	}
	whole := &dialect.Error{Issues: []dialect.Issue{{Path: strings.Split(strings.Repeat("a.", 69)+"a", ".")}}}
	if out := string(whole.AppendJSON(nil)); strings.Contains(out, "…") || strings.Count(out, `"a"`) != 70 {
		t.Errorf("a path as deep as data may be: %s", out)
	}
}
