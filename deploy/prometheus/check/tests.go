package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"go.yaml.in/yaml/v2"
)

// testFile is what of promtool's format our tests need.
type testFile struct {
	RuleFiles []string       `yaml:"rule_files"`
	Every     model.Duration `yaml:"evaluation_interval"`
	Tests     []struct {
		Name     string
		Interval model.Duration                    // between the values of a series
		Series   []struct{ Series, Values string } `yaml:"input_series"`
		Alerts   []testCase                        `yaml:"alert_rule_test"`
	}
}

// testCase is an alert, and what of it fires at a time.
type testCase struct {
	At    model.Duration `yaml:"eval_time"`
	Name  string         `yaml:"alertname"`
	Fires []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

func tests(file string) (n int, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var f testFile
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return 0, err
	}
	alerts := make(map[string]rulefmt.Rule)
	for _, name := range f.RuleFiles {
		groups, errs := rulefmt.ParseFile(filepath.Join(filepath.Dir(file), name), false, model.UTF8Validation)
		if len(errs) > 0 {
			return 0, errors.Join(errs...)
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				alerts[r.Alert] = r
			}
		}
	}
	fired := make(map[string]bool)
	for _, t := range f.Tests {
		var known series
		for _, s := range t.Series {
			if err := known.add(s.Series+" "+s.Values, time.Duration(t.Interval)); err != nil {
				return n, fmt.Errorf("%s: %w", t.Name, err)
			}
		}
		for _, c := range t.Alerts {
			rule, ok := alerts[c.Name]
			if !ok {
				return n, fmt.Errorf("%s: there is no alert %s", t.Name, c.Name)
			}
			got, err := known.firing(&rule, time.Duration(c.At), time.Duration(f.Every))
			if err != nil {
				return n, fmt.Errorf("%s: %s: %w", t.Name, c.Name, err)
			}
			var want []string
			for _, a := range c.Fires {
				want = append(want, fmt.Sprint(a.Labels, a.Annotations))
			}
			if slices.Sort(want); !slices.Equal(got, want) {
				return n, fmt.Errorf("%s: of %s there fires at %v:\n%s\nand it should be:\n%s", t.Name, c.Name, c.At, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			fired[c.Name] = fired[c.Name] || len(got) > 0
			n++
		}
	}
	for name := range alerts {
		if !fired[name] {
			return n, fmt.Errorf("%s fires in no case", name)
		}
	}
	return n, nil
}

// series are what Prometheus has scraped.
type series []storage.Series

func (s *series) add(described string, every time.Duration) error {
	name, values, err := parser.ParseSeriesDesc(described)
	if err != nil {
		return err
	}
	var samples []chunks.Sample
	for i, v := range values {
		if !v.Omitted {
			samples = append(samples, sample{int64(i) * every.Milliseconds(), v.Value})
		}
	}
	*s = append(*s, storage.NewListSeries(name, samples))
	return nil
}

// sample is a number at a time, in milliseconds.
type sample struct {
	at    int64
	value float64
}

func (s sample) T() int64                    { return s.at }
func (s sample) F() float64                  { return s.value }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }

// Querier is Prometheus' way to them.
func (s series) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		found := &selected{at: -1}
		for _, one := range s {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(one.Labels().Get(m.Name)) }) {
				found.series = append(found.series, one)
			}
		}
		return found
	}}, nil
}

type selected struct {
	series
	at int
}

func (s *selected) Next() bool                      { s.at++; return s.at < len(s.series) }
func (s *selected) At() storage.Series              { return s.series[s.at] }
func (*selected) Err() error                        { return nil }
func (*selected) Warnings() annotations.Annotations { return nil }

var engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute})

// firing evaluates an alert time after time, and gives what of it fires at the last.
func (s series) firing(rule *rulefmt.Rule, at, every time.Duration) (all []string, err error) {
	since := make(map[string]time.Duration) // by labels: from when on it holds
	for now := time.Duration(0); now <= at; now += every {
		query, err := engine.NewInstantQuery(context.Background(), s, nil, rule.Expr, time.UnixMilli(now.Milliseconds()))
		if err != nil {
			return nil, err
		}
		vector, err := query.Exec(context.Background()).Vector()
		if err != nil {
			return nil, err
		}
		all = nil
		holds := make(map[string]time.Duration)
		for _, one := range vector {
			key := one.Metric.String()
			begun, held := since[key]
			if !held {
				begun = now
			}
			if holds[key] = begun; now-begun < time.Duration(rule.For) {
				continue
			}
			told, err := tell(rule, one)
			if err != nil {
				return nil, err
			}
			all = append(all, told)
		}
		since = holds
		query.Close()
	}
	slices.Sort(all)
	return all, nil
}

// tell gives the labels and annotations of an alert that fires.
func tell(rule *rulefmt.Rule, of promql.Sample) (string, error) {
	with := of.Metric.Map()
	delete(with, model.MetricNameLabel)
	said := make(map[string]string)
	for name, text := range rule.Annotations {
		data := template.AlertTemplateData(with, nil, "", of)
		out, err := template.NewTemplateExpander(context.Background(), "{{$labels := .Labels}}{{$value := .Value}}"+text, name, data, 0, nil, nil, nil).Expand()
		if err != nil {
			return "", err
		}
		said[name] = out
	}
	maps.Copy(with, rule.Labels)
	return fmt.Sprint(with, said), nil
}
