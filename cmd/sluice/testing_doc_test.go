package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTestingDoc holds that every test that docs/testing.md names exists, in the
// package that it is said to be in.
func TestTestingDoc(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "testing.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`([a-z/]+)`|\\b(Test\\w+)")
	named := 0
	for line := range strings.Lines(string(page)) {
		where, code := "", "" // named before the tests
		for _, m := range names.FindAllStringSubmatch(line, -1) {
			if m[2] == "" {
				files, err := filepath.Glob(filepath.Join(root, m[1], "*_test.go"))
				if err != nil {
					t.Fatal(err)
				}
				where, code = m[1], ""
				for _, file := range files {
					text, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					code += string(text)
				}
				continue
			}
			if named++; where != "" && !strings.Contains(code, "\nfunc "+m[2]+"(t *testing.T)") {
				t.Errorf("there is no %s in %s: %s", m[2], where, line)
			}
		}
	}
	if named < 80 {
		t.Errorf("only %d tests are named", named)
	}
}
