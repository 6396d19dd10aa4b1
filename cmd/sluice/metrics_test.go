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

// metricNames are the names of ours in a text; those of a histogram's series are its own.
func metricNames(text []byte) (names []string) {
	for name := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
		if strings.HasPrefix(name, "sluice_") {
			names = append(names, strings.TrimSuffix(name, "_bucket"))
		}
	}
	return names
}

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
	for _, file := range []string{
		"docs/metrics.md", "docs/operations.md", "deploy/prometheus/alerts.yaml", "deploy/grafana/sluice.json",
		"deploy/kubernetes/gateway.yaml", "deploy/kubernetes/dispatcher.yaml",
	} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		named := metricNames(text)
		if len(named) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range named {
			if !slices.Contains(listed, name) {
				t.Errorf("%s speaks of %s, which no table of docs/metrics.md has", file, name)
			}
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

// TestAlertsHaveEntries: each alert says where docs/operations.md has what to do, and
// that has no entry without an alert.
func TestAlertsHaveEntries(t *testing.T) {
	alerts, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	operations, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var entries, named []string
	for _, m := range regexp.MustCompile(`(?m)^### (Sluice\w+)$`).FindAllSubmatch(operations, -1) {
		entries = append(entries, string(m[1]))
	}
	for _, m := range regexp.MustCompile(`(?s)- alert: (\w+)\n.*?runbook: "docs/operations\.md#(\w+)"`).FindAllSubmatch(alerts, -1) {
		if string(m[2]) != strings.ToLower(string(m[1])) {
			t.Errorf("%s points to %s", m[1], m[2])
		}
		named = append(named, string(m[1]))
	}
	if slices.Sort(entries); len(entries) == 0 {
		t.Error("docs/operations.md has no entries")
	}
	if slices.Sort(named); !slices.Equal(entries, named) {
		t.Errorf("entries of docs/operations.md: %v; alerts: %v", entries, named)
	}
}
