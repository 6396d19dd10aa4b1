package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/drive"
	"sluice/loadtest/report"
	"sluice/pkg/key"
)

// loadtestCmd loads a deployment that runs, and holds what comes out against what
// was acknowledged. What is shown of it is in loadtest_show.go, a deployment that it
// starts itself in loadtest_own.go.
type loadtestCmd struct {
	apiFlags
	OtherKeys  []string `name:"other-keys" env:"SLUICE_OTHER_KEYS" placeholder:"KEY,…" help:"Keys of other orgs, over which the load is spread, too: then it is seen whether any of them gets what is another's."`
	Duration   duration `placeholder:"TIME" help:"Publish for so long. Default: what the scenario says."`
	Seed       *uint64  `placeholder:"N" help:"Decides who stalls, leaves, fails and hangs, what is broken, and when. Default: another one each time; it is printed."`
	Receive    address  `default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Listen for webhooks here. Default: ${default}, a free port."`
	ReceiveURL string   `name:"receive-url" placeholder:"URL" help:"How sluice reaches that, as in http://10.0.0.7:8900. Default: by the address of --receive."`
	Processes  int      `default:"1" placeholder:"N" help:"Drive the load from so many processes of this machine, which have equal shares of publishers, streams and receivers. Default: ${default}."`
	Metrics    []string `placeholder:"HOST:PORT,…" help:"Addresses of --ops of the deployment's processes: their CPU time, memory and lag are read each second, for --report and --json."`
	Brokers    brokers  `placeholder:"HOST:PORT,…" group:"own" help:"Brokers for the processes that a scenario starts itself, which share a log there. Settings of theirs, as of sluice serve, are taken from the environment."`
	Logs       string   `type:"path" placeholder:"DIR" group:"own" help:"Keep there what these processes say, and their data, of one run. Default: a new directory, which is named."`
	From       string   `type:"existingfile" placeholder:"FILE" group:"own" help:"Begin with these processes as another build of sluice; the first restart of each upgrades it to this one."`
	JSON       string   `name:"json" type:"path" placeholder:"FILE" help:"Write all figures there, as JSON, second by second too."`
	Report     string   `type:"path" placeholder:"FILE" help:"Make a page of it there, as sluice report does, in HTML."`
	Show       bool     `help:"Print the scenario, as a file to make others from, and do nothing else."`
	Scenario   string   `arg:"" placeholder:"SCENARIO" help:"One that comes with the program, by its name, or a file, as in ./mine.yaml."`

	scenario *drive.Scenario
}

// Help is shown by sluice loadtest --help.
func (loadtestCmd) Help() string {
	return `Publishes events at the scenario's rates, streams them to its clients and takes webhooks at endpoints that it registers and
removes again. Standard error has the rates and times of each second; standard output, in the end, tables, and a
verdict: what was acknowledged must have come to everybody it is for, once it is there in the log's order, and to
nobody else; what a slow stream lost must have been declared. The exit code is 1 unless all of that holds.

Times count from when a request was due, whether it could be sent then or not. Where this process and not sluice
was the limit, that is said: --processes 4 has four of them share the load, whose account is one. Ctrl-C ends it early, with what was seen so far.

A scenario with processes, as chaos, starts a deployment itself, of this program, with orgs of its own, and breaks it
meanwhile as the seed says; --url and --key have no part in that. All of it ends with this process, whatever ends that.

Its events are of types load.RUN.NAME, whose RUN no other run has; other traffic isn't counted. Endpoints and streams
of that org that want every type get them: give the key of an org that is there for this, in the sandbox. Webhooks
come to this machine: sluice serve needs --allow-private-endpoints for an address that isn't public.

Scenarios that come with the program: ` + strings.Join(drive.BuiltIn(), ", ") + `.

Examples:

    sluice loadtest steady --key sk_test_…
    sluice loadtest crowd --duration 10m --json crowd.json --report crowd.html --metrics 10.0.0.7:9090,10.0.0.8:9090
    sluice loadtest crowd --processes 4
    sluice loadtest steady --show > mine.yaml && sluice loadtest ./mine.yaml --seed 7
    sluice loadtest chaos --brokers kafka-1:9092 --seed 7 --logs chaos`
}

// Validate reads the scenario, and stops what can't be run.
func (c *loadtestCmd) Validate() (err error) {
	text, err := drive.Text(c.Scenario)
	if err != nil {
		return err
	}
	if c.scenario, err = drive.Parse(text); err != nil {
		return fmt.Errorf("scenario %s: %w", c.Scenario, err)
	}
	if c.Duration > 0 {
		if err := c.scenario.For(time.Duration(c.Duration)); err != nil {
			return fmt.Errorf("--duration: %w", err)
		}
	}
	own := len(c.scenario.Processes) > 0
	switch {
	case c.Processes < 1 || c.Processes > drive.MostProcesses:
		return fmt.Errorf("--processes must be 1 to %d", drive.MostProcesses)
	case c.Show:
		return nil
	case !own && (len(c.Brokers) > 0 || c.Logs != "" || c.From != ""):
		return fmt.Errorf("scenario %s starts no processes: --brokers, --logs and --from are for those that have `processes`, as chaos does", c.Scenario)
	case len(c.scenario.Processes) > 1 && len(c.Brokers) == 0:
		return fmt.Errorf("scenario %s starts %d processes, which share a log on brokers: give --brokers", c.Scenario, len(c.scenario.Processes))
	case own && len(c.OtherKeys) > 0:
		return fmt.Errorf("scenario %s starts a deployment of its own, and makes its orgs: --other-keys are of another", c.Scenario)
	case own:
		return nil
	}
	if err := c.apiFlags.Validate(); err != nil {
		return err
	}
	for _, k := range c.OtherKeys {
		// What is for everybody is for everybody of an environment.
		first, err := key.Check(c.Key)
		env, also := key.Check(k)
		if err != nil || also != nil || env != first {
			return errors.New("--other-keys must be API keys of the environment that --key is of, with commas between")
		}
	}
	if len(c.Metrics) > drive.MostServers {
		return fmt.Errorf("--metrics has %d addresses: give %d at most", len(c.Metrics), drive.MostServers)
	}
	for _, a := range c.Metrics {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("--metrics %q is no address: give host:port, as of --ops", a)
		}
	}
	if u, err := url.Parse(c.ReceiveURL); c.ReceiveURL != "" && (err != nil || u.Host == "" || u.Port() == "" && c.Processes > 1) {
		return fmt.Errorf("--receive-url %q is no address: give http://host:port", c.ReceiveURL)
	}
	return nil
}

// errViolated is what a run ends with whose account doesn't hold.
var errViolated = errors.New("what must hold doesn't: see the verdict")

func (c *loadtestCmd) Run(ctx context.Context, s std) error {
	if c.Show {
		text, err := drive.Text(c.Scenario)
		if err == nil {
			_, err = s.Out.Write(text)
		}
		return err
	}
	// A load that nobody reads any more ends as by Ctrl-C: killed for that, it would leave
	// its endpoints.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	ctx, unread := context.WithCancel(ctx)
	defer unread()
	progress := &loadProgress{to: s.Err, terminal: isTerminal(s.Err), unread: unread}
	result, err := c.load(ctx, progress)
	switch {
	case result == nil && ctx.Err() != nil:
		return errInterrupted
	case result == nil:
		return err
	}
	progress.end()
	if err := errors.Join(err, c.tell(s, result)); err != nil {
		return err
	}
	if !result.Verdict.OK {
		return errViolated
	}
	return nil
}

// load does what the scenario says, to the deployment that is named, or to one that it
// starts, and ends again.
func (c *loadtestCmd) load(ctx context.Context, progress *loadProgress) (result *drive.Result, err error) {
	cfg := drive.Config{
		Scenario: c.scenario, Name: c.Scenario, URL: strings.TrimSuffix(c.URL, "/"), Keys: append([]string{c.Key}, c.OtherKeys...),
		ReceiveOn: string(c.Receive), ReceiveAt: strings.TrimSuffix(c.ReceiveURL, "/"), Seed: rand.Uint64() >> 32,
		Say: progress.say, Each: progress.second, Processes: c.Processes,
	}
	if c.Seed != nil {
		cfg.Seed = *c.Seed
	}
	if len(c.scenario.Processes) > 0 {
		own, err := c.startOwn(ctx, &cfg)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, own.stop()) }()
		for _, n := range cfg.Fleet.Nodes[:min(len(cfg.Fleet.Nodes), drive.MostServers)] {
			c.Metrics = append(c.Metrics, n.Ops)
		}
	}
	for _, address := range c.Metrics {
		cfg.Metrics = append(cfg.Metrics, "http://"+address+"/metrics")
	}
	cfg.Call = callsOf(cfg.URL, cfg.Keys)
	if cfg.Processes > 1 {
		binary, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cfg.Command = func() *exec.Cmd { return exec.Command(binary, "loadtest-process") }
	}
	return drive.Run(ctx, cfg)
}

// callsOf makes calls of the API with these keys.
func callsOf(url string, keys []string) drive.Call {
	return func(ctx context.Context, org int, method, path string, in, out any) error {
		api := client{base: url, token: keys[org], address: "--url", secret: "--key"}
		_, err := api.call(ctx, method, path, in, out)
		return err
	}
}

// tell prints what came of it, and writes the files that were asked for.
func (c *loadtestCmd) tell(s std, r *drive.Result) error {
	ended := ""
	if r.Interrupted {
		ended = ", interrupted"
	}
	fmt.Fprintf(s.Out, "scenario %s, seed %d, run %s: %s for %v%s, at %s with %d keys; %s\n\n", r.Name, r.Seed, r.Run,
		r.Began.Format(time.DateTime), time.Duration(r.Published*float64(time.Second)).Round(100*time.Millisecond), ended, r.URL, r.Orgs, r.Machine)
	for _, table := range loadTables(r) {
		if err := printTable(s.Out, table...); err != nil {
			return err
		}
		fmt.Fprintln(s.Out)
	}
	_, err := fmt.Fprint(s.Out, loadWords(r))
	if c.JSON != "" {
		err = errors.Join(err, writeJSON(c.JSON, r))
	}
	if c.Report != "" {
		err = errors.Join(err, writeReport(c.Report, report.Part{Load: r}))
	}
	return err
}
