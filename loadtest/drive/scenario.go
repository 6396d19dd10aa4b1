package drive

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"sluice/loadtest/book"
)

// Scenario is what a run does. Its publishers, streams and receivers are spread
// over all orgs that the run has.
type Scenario struct {
	About      string      `yaml:"about" json:"about"`
	Duration   Time        `yaml:"duration" json:"duration"` // of publishing
	Settle     Time        `yaml:"settle" json:"settle"`     // how long it may take after that until everything is there [30s]
	Publishers []Publisher `yaml:"publishers" json:"publishers"`
	Streams    []Streams   `yaml:"streams" json:"streams"`
	Receivers  []Receivers `yaml:"receivers" json:"receivers"`

	// What the run starts itself; without processes it loads what runs.
	Processes []string `yaml:"processes" json:"processes"` // roles of each, with commas between
	Orgs      int      `yaml:"orgs" json:"orgs"`           // [1]
	Faults    []Fault  `yaml:"faults" json:"faults"`
}

// Publisher sends events at a rate that doesn't depend on the answers.
type Publisher struct {
	Name      string  `yaml:"name" json:"name"`
	Rate      float64 `yaml:"rate" json:"rate"`           // events a second, in all
	Batch     int     `yaml:"batch" json:"batch"`         // events a request [1]
	Size      int     `yaml:"size" json:"size"`           // bytes of data, about [200]
	Keys      int     `yaml:"keys" json:"keys"`           // of an org, in turn [16]
	InFlight  int     `yaml:"inFlight" json:"inFlight"`   // requests under way at once, at most [128]
	Random    bool    `yaml:"random" json:"random"`       // requests come at random, as many people's do; else evenly
	Broadcast bool    `yaml:"broadcast" json:"broadcast"` // to every org
}

// Streams are clients of one kind. A client is of one share at most: the rest are
// steady, and latency is theirs.
type Streams struct {
	Name         string   `yaml:"name" json:"name"`
	Kind         string   `yaml:"kind" json:"kind"` // websocket or sse
	Connections  int      `yaml:"connections" json:"connections"`
	Publishers   []string `yaml:"publishers" json:"publishers"`     // whose events they want [all]
	Stalled      Share    `yaml:"stalled" json:"stalled"`           // stop reading for Stall, again and again
	Stall        Time     `yaml:"stall" json:"stall"`               // [10s]
	Resuming     Share    `yaml:"resuming" json:"resuming"`         // leave after Stay, and go on from their cursor
	Reconnecting Share    `yaml:"reconnecting" json:"reconnecting"` // leave after Stay, and begin anew
	Stay         Time     `yaml:"stay" json:"stay"`                 // half of it to one and a half [10s]
	OnSlow       string   `yaml:"onSlow" json:"onSlow"`             // of WebSockets: drop or resume [drop]
}

// Receivers are endpoints of one kind, and the server behind them.
type Receivers struct {
	Name       string   `yaml:"name" json:"name"`
	Endpoints  int      `yaml:"endpoints" json:"endpoints"`
	Publishers []string `yaml:"publishers" json:"publishers"` // whose events they want [all]
	Takes      Time     `yaml:"takes" json:"takes"`           // until it answers
	Fails      Share    `yaml:"fails" json:"fails"`           // of requests that are answered with 500
	Hangs      Share    `yaml:"hangs" json:"hangs"`           // of requests that are never answered
	Ordered    bool     `yaml:"ordered" json:"ordered"`
}

// Time is a time span, as in 500ms, 30s or 2m.
type Time time.Duration

// UnmarshalText reads one that isn't negative.
func (t *Time) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d < 0 {
		return fmt.Errorf("%q is no time: give a number and a unit, as in 500ms, 30s or 2m", text)
	}
	*t = Time(d)
	return nil
}

// MarshalText writes it as it is read.
func (t Time) MarshalText() ([]byte, error) { return []byte(time.Duration(t).String()), nil }

// Share is a part of a whole, as in 5% or 0.05.
type Share float64

// UnmarshalText reads one from 0 to 1.
func (s *Share) UnmarshalText(text []byte) error {
	digits, percent := strings.CutSuffix(string(text), "%")
	v, err := strconv.ParseFloat(digits, 64)
	if percent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("%q is no share: give 0%% to 100%%", text)
	}
	*s = Share(v)
	return nil
}

// MarshalText writes it as it is read.
func (s Share) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(100*float64(s), 'g', -1, 64) + "%"), nil
}

//go:embed scenarios
var builtIn embed.FS

// BuiltIn lists the names of the scenarios that come with the program.
func BuiltIn() (names []string) {
	files, err := builtIn.ReadDir("scenarios")
	if err != nil {
		panic(err) // it was embedded
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".yaml"))
	}
	return names
}

// Text gives a scenario as it is written: one that comes with the program, by its
// name, or a file, by a path with a slash or an ending.
func Text(name string) ([]byte, error) {
	if filepath.Base(name) != name || filepath.Ext(name) != "" {
		return os.ReadFile(name)
	}
	text, err := builtIn.ReadFile("scenarios/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("there is no scenario %q: give one of %s, or a file, as in ./%s.yaml", name, strings.Join(BuiltIn(), ", "), name)
	}
	return text, nil
}

// Parse reads a scenario. Its errors say where they are.
func Parse(text []byte) (*Scenario, error) {
	s := new(Scenario)
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(s); err != nil && err != io.EOF { // which is a file without a word
		var at yaml.Error
		if errors.As(err, &at) && at.GetToken() != nil {
			return nil, fmt.Errorf("line %d: %s", at.GetToken().Position.Line, at.GetMessage())
		}
		return nil, err
	}
	s.defaults()
	return s, s.check()
}

// For has the scenario publish for another time.
func (s *Scenario) For(d time.Duration) error {
	s.Duration = Time(d)
	return s.check()
}

func (s *Scenario) defaults() {
	set := func(t *Time, d time.Duration) {
		if *t == 0 {
			*t = Time(d)
		}
	}
	set(&s.Settle, 30*time.Second)
	if len(s.Processes) > 0 && s.Orgs == 0 {
		s.Orgs = 1
	}
	for i := range s.Faults {
		set(&s.Faults[i].Lasts, time.Second)
	}
	for i := range s.Publishers {
		p := &s.Publishers[i]
		for _, d := range []struct {
			to *int
			n  int
		}{{&p.Batch, 1}, {&p.Size, 200}, {&p.Keys, 16}, {&p.InFlight, 128}} {
			if *d.to == 0 {
				*d.to = d.n
			}
		}
	}
	for i := range s.Streams {
		set(&s.Streams[i].Stall, 10*time.Second)
		set(&s.Streams[i].Stay, 10*time.Second)
		if s.Streams[i].Kind == webSocket && s.Streams[i].OnSlow == "" {
			s.Streams[i].OnSlow = "drop"
		}
	}
}

// The kinds of streams.
const (
	webSocket    = "websocket"
	serverEvents = "sse"
)

// The bounds of a scenario. An event takes 16 bytes for as long as a run is, and as
// much again for each class of streams.
const (
	mostEvents = 20_000_000
	mostBytes  = 3 << 20 // of a request; the API takes 4 MiB
)

var names = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

func (s *Scenario) check() error {
	if s.Duration == 0 || len(s.Publishers) == 0 {
		return errors.New("a scenario needs a duration and publishers")
	}
	seen := make(map[string]bool)
	named := func(name string) error {
		if !names.MatchString(name) || seen[name] {
			return fmt.Errorf("name %q: give each publisher, stream and receiver one of its own, of small letters, digits and _", name)
		}
		seen[name] = true
		return nil
	}
	total := 0.0
	for _, p := range s.Publishers {
		if err := named(p.Name); err != nil {
			return err
		}
		total += p.Rate * time.Duration(s.Duration).Seconds()
		if err := p.check(); err != nil {
			return fmt.Errorf("publisher %s: %w", p.Name, err)
		}
	}
	if total > mostEvents {
		return fmt.Errorf("%.0f events are too many to keep account of: at most %d", total, mostEvents)
	}
	for _, c := range s.Streams {
		if err := errors.Join(named(c.Name), s.know(c.Publishers)); err != nil {
			return err
		}
		if err := c.check(); err != nil {
			return fmt.Errorf("streams %s: %w", c.Name, err)
		}
	}
	for _, r := range s.Receivers {
		if err := errors.Join(named(r.Name), s.know(r.Publishers)); err != nil {
			return err
		}
		if r.Endpoints < 1 || r.Fails+r.Hangs > 1 {
			return fmt.Errorf("receivers %s: they need 1 endpoint or more, and fails and hangs are 100%% together at most", r.Name)
		}
	}
	return s.checkFaults()
}

// roles are those that a process may have.
var roles = []string{"all", "api", "gateway", "dispatcher"}

// mostOrgs bounds those that a run makes.
const mostOrgs = 1000

func (s *Scenario) checkFaults() error {
	if len(s.Processes) == 0 && (len(s.Faults) > 0 || s.Orgs != 0) {
		return errors.New("faults and orgs are of a deployment that the run starts itself: say its processes, as in [all] or [api, gateway, dispatcher]")
	}
	for _, p := range s.Processes {
		for role := range strings.SplitSeq(p, ",") {
			if !slices.Contains(roles, role) {
				return fmt.Errorf("process %q: its roles must be of %s", p, strings.Join(roles, ", "))
			}
		}
	}
	if len(s.Processes) > 0 && (s.Orgs < 1 || s.Orgs > mostOrgs) {
		return fmt.Errorf("orgs must be 1 to %d", mostOrgs)
	}
	for i := range s.Faults {
		if err := s.Faults[i].check(s.Processes); err != nil {
			return fmt.Errorf("fault %d: %w", i+1, err)
		}
	}
	return nil
}

func (p *Publisher) check() error {
	switch {
	case !(p.Rate > 0) || math.IsInf(p.Rate, 0):
		return errors.New("rate must be more than 0")
	case p.Batch < 1 || p.Batch > 1000:
		return errors.New("batch must be 1 to 1000")
	case p.Size < 1 || p.Size > 250<<10 || p.Size*p.Batch > mostBytes:
		return errors.New("size must be 1 to 256000, and a batch have 3 MiB at most")
	case p.Keys < 1 || p.InFlight < 1 || p.InFlight > 10_000:
		return errors.New("keys must be 1 or more, inFlight 1 to 10000")
	}
	return nil
}

func (c *Streams) check() error {
	switch {
	case c.Kind != webSocket && c.Kind != serverEvents:
		return fmt.Errorf("kind must be %s or %s", webSocket, serverEvents)
	case c.Connections < 1:
		return errors.New("connections must be 1 or more")
	case c.Stalled+c.Resuming+c.Reconnecting > 1:
		return errors.New("stalled, resuming and reconnecting are 100% together at most")
	case c.Kind == serverEvents && c.OnSlow != "":
		return errors.New("onSlow is for WebSockets: server-sent events are always read on from the log")
	case c.Kind == webSocket && c.OnSlow != "drop" && c.OnSlow != "resume":
		return errors.New("onSlow must be drop or resume")
	}
	return nil
}

// know refuses publishers that there aren't.
func (s *Scenario) know(publishers []string) error {
	for _, name := range publishers {
		if !slices.ContainsFunc(s.Publishers, func(p Publisher) bool { return p.Name == name }) {
			return fmt.Errorf("there is no publisher %q", name)
		}
	}
	return nil
}

// wants says of each publisher whether its events are wanted by who names these.
func (s *Scenario) wants(publishers []string) (wants []bool) {
	for _, p := range s.Publishers {
		wants = append(wants, len(publishers) == 0 || slices.Contains(publishers, p.Name))
	}
	return wants
}

// patterns are the types of events that these publishers send; of all where none is
// named.
func (m *marks) patterns(publishers []string) (patterns []string) {
	if len(publishers) == 0 {
		return []string{m.typ("*")}
	}
	for _, name := range publishers {
		patterns = append(patterns, m.typ(name))
	}
	return patterns
}

// requests is how many requests a publisher makes in a run.
func (s *Scenario) requests(p *Publisher) int {
	return max(1, int(p.Rate*time.Duration(s.Duration).Seconds()/float64(p.Batch)))
}

// book is what the run is held against.
func (s *Scenario) book(orgs int, name func(int) string) *book.Book {
	var publishers []book.Publisher
	for i := range s.Publishers {
		p := &s.Publishers[i]
		publishers = append(publishers, book.Publisher{Count: s.requests(p) * p.Batch, Batch: p.Batch, Keys: p.Keys, Broadcast: p.Broadcast})
	}
	return book.New(orgs, publishers, name)
}
