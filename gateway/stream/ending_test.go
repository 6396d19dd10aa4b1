package stream

import (
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// TestEndings: every ending is in the list, by a name of its own, is one that a
// close frame can say, and is told of in docs/metrics.md as it is.
func TestEndings(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]bool)
	for i := range endings {
		e := &endings[i]
		if names[e.Name] {
			t.Errorf("two endings are called %s", e.Name)
		}
		names[e.Name] = true
		if len(e.Reason) > 123 || e.Code != 0 && (e.Code < 1000 || e.Code > 4999) {
			t.Errorf("%s can't be said: %d %s", e.Name, e.Code, e.Reason)
		}
		code, back := e.code(), "yes"
		if e.Name == endClient.Name {
			code = "its own"
		}
		if !e.Reconnect {
			back = "no"
		}
		if row := fmt.Sprintf("| `%s` | %s | %s |", e.Name, code, back); !strings.Contains(string(doc), row) {
			t.Errorf("docs/metrics.md lacks a row %s", row)
		}
	}
	file, err := goparser.ParseFile(token.NewFileSet(), "ending.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			return true
		}
		lit, ok := v.Values[0].(*ast.CompositeLit)
		if !ok {
			return true
		}
		if name, ok := lit.Type.(*ast.Ident); ok && name.Name == "Ending" {
			found++
		}
		return true
	})
	if found != len(endings) {
		t.Errorf("there are %d endings, and %d are listed", found, len(endings))
	}
}

// TestCodesAreFew: whatever code a client closes with, its counter has few values.
func TestCodesAreFew(t *testing.T) {
	codes := make(map[string]bool)
	for code := range uint16(5000) {
		codes[echo(code).code()] = true
	}
	if len(codes) != 4 { // none, 1000, 1001, other
		t.Errorf("%d codes", len(codes))
	}
}
