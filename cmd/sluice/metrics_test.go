package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMetricsReference holds the tables of docs/metrics.md to the metrics there
// are, in a process that does everything.
func TestMetricsReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(sluice_[a-z_]+)`").FindAllSubmatch(text, -1) {
		listed = append(listed, string(row[1]))
	}
	for name := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		if strings.HasPrefix(name, "sluice_") && !slices.Contains(listed, name) && !slices.Contains(listed, strings.TrimSuffix(name, "_bucket")) {
			t.Errorf("docs/metrics.md speaks of %s, which no table has", name)
		}
	}
	n := startStory(t, nodeConfig{})
	// The registry gives what has values, and many have none until something
	// happens. What was ever described is in this field.
	described := reflect.ValueOf(n.metrics).Elem().FieldByName("dimHashesByName")
	if !described.IsValid() || described.Len() == 0 {
		t.Fatal("the registry keeps the names of its metrics elsewhere now: look there")
	}
	var there []string
	for _, key := range described.MapKeys() {
		if name := key.String(); strings.HasPrefix(name, "sluice_") {
			there = append(there, name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(there, name) {
			t.Errorf("docs/metrics.md lists %s, which there isn't", name)
		}
	}
	slices.Sort(there)
	for _, name := range there {
		if !slices.Contains(listed, name) {
			t.Errorf("docs/metrics.md doesn't list %s", name)
		}
	}
}
