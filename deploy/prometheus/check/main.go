// Command check reads alerts and dashboards as Prometheus would, and fails on what
// it would refuse. Of tests, which are written as promtool has them, it runs each alert
// over the series that are said, and fails where another fires than is said.
//
//	go run . ../alerts.yaml ../../grafana/sluice.json ../alerts_test.yaml
//
// It is a module of its own, so that sluice doesn't depend on Prometheus.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	for _, file := range os.Args[1:] {
		read, done := rules, "Prometheus reads its %d expressions"
		switch {
		case strings.HasSuffix(file, ".json"):
			read = panels
		case strings.HasSuffix(file, "_test.yaml"):
			read, done = tests, "alerts fire as its %d cases say"
		}
		n, err := read(file)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
		fmt.Printf("%s: "+done+"\n", file, n)
	}
}

func rules(file string) (n int, err error) {
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation)
	if len(errs) > 0 {
		return 0, errors.Join(errs...)
	}
	for _, g := range groups.Groups {
		n += len(g.Rules)
	}
	return n, nil
}

// variables are what Grafana fills in before it asks.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$job", ".*")

func panels(file string) (n int, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		return 0, err
	}
	for _, p := range board.Panels {
		for _, t := range p.Targets {
			if _, err := parser.ParseExpr(variables.Replace(t.Expr)); err != nil {
				return 0, fmt.Errorf("panel %q: %w", p.Title, err)
			}
			n++
		}
	}
	return n, nil
}
