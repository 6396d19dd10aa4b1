// Command sluice is the whole product: events go in once, are kept for seven
// days, and reach people by WebSocket and by signed webhook.
//
//	main.go       the commands, and how a process ends
//	settings.go   what a node can be told; kafka.go: how to reach brokers
//	config.go     flags win over the environment, that over the config file
//	values.go     kinds of values, and what they say when they are wrong; roles.go
//	serve.go      a node, until a signal
//	node.go       one running node, and node_*.go: its parts, put together
//	certificate.go  TLS of the public port, and files that hold secrets
//	bootstrap.go  the first start on an empty log
//	ops.go        health, metrics, the admin API
//	demo*.go      a node, and everybody who would use one
//	client.go     calls of the API, for the commands below
//	backup.go     a copy of the log; migrate*.go: all of it, to brokers
//	publish.go (publish_lines.go: its batches; publish_progress.go: what is seen of them)
//	tail.go (stream_reader.go: a stream, over reconnects), listen.go (listen_forward.go: its webhooks)
//	org.go key.go endpoint.go lane.go bench.go version.go
//	loadtest.go (loadtest_show.go: what is shown of it, loadtest_own.go: a deployment
//	that it starts itself, loadtest_process.go: other processes that it has a share of
//	the load), report.go: a page of both
//	ready.go config_check.go topics.go: for operators, the last two offline
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Serve serveCmd `cmd:"" group:"run" help:"Run sluice."`
	Demo  demoCmd  `cmd:"" group:"run" help:"See it work: sluice, with a publisher, subscribers and a webhook receiver around it."`

	Publish publishCmd `cmd:"" group:"use" help:"Publish events."`
	Tail    tailCmd    `cmd:"" group:"use" help:"Print events as they are published, one JSON object a line."`
	Listen  listenCmd  `cmd:"" group:"use" help:"Bring webhooks to a server on your own machine."`

	Endpoint endpointCmd `cmd:"" group:"manage" help:"Manage webhook endpoints."`
	Org      orgCmd      `cmd:"" group:"manage" help:"Manage orgs (administration)."`
	Key      keyCmd      `cmd:"" group:"manage" help:"Manage API keys (administration)."`

	Config  configCmd  `cmd:"" group:"operate" help:"Look at settings."`
	Ready   readyCmd   `cmd:"" group:"operate" help:"Say whether a running process is ready."`
	Backup  backupCmd  `cmd:"" group:"operate" help:"Copy the log in --data, while it is in use or not."`
	Migrate migrateCmd `cmd:"" group:"operate" help:"Bring what is in --data to brokers."`
	Topics  topicsCmd  `cmd:"" group:"operate" help:"Print which topics to create on brokers."`
	Lane    laneCmd    `cmd:"" group:"operate" help:"Have a lane go on that has lost something."`

	Bench    benchCmd    `cmd:"" help:"Measure this machine: sluice, beside the least that the same work can cost."`
	Loadtest loadtestCmd `cmd:"" help:"Load a sluice that runs, and hold what comes out against what went in."`
	LoadProc loadProcCmd `cmd:"" name:"loadtest-process" hidden:"" help:"Take a share of a load; what sluice loadtest --processes starts."`
	Report   reportCmd   `cmd:"" help:"Make a page of what bench and loadtest measured."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

// std is where a command reads and writes.
type std struct {
	In       io.Reader
	Out, Err io.Writer
}

func main() {
	os.Exit(Main(os.Args[1:], std{os.Stdin, os.Stdout, os.Stderr}))
}

// Main runs one command line and gives its exit code: 0 for success, 1 for an
// error, 2 for a command line that couldn't be read.
func Main(args []string, s std) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		select {
		case <-signals:
			// The default is back before anybody can see that it stops: a second one ends
			// the process at once.
			signal.Stop(signals)
			cancel()
		case <-ctx.Done():
		}
	}()
	return run(ctx, args, s)
}

func run(ctx context.Context, args []string, s std) int {
	exit := -1
	parser := newParser(ctx, new(cli), s, func(code int) { exit = code })
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 { // --help has been printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(s.Err, "sluice: %v\n", err)
		return 2
	}
	if err := parsed.Run(); err != nil {
		fmt.Fprintf(s.Err, "sluice: %v\n", err)
		return 1
	}
	return 0
}

func newParser(ctx context.Context, c *cli, s std, exit func(int)) *kong.Kong {
	parser, err := kong.New(c,
		kong.Name("sluice"),
		kong.Description("Publish an event once; it is kept for seven days and delivered by WebSocket and by signed webhook."),
		kong.Writers(s.Out, s.Err),
		kong.Exit(exit),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(s),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "run", Title: "Run:"},
			{Key: "use", Title: "Use:"},
			{Key: "manage", Title: "Manage:"},
			{Key: "operate", Title: "Operate:"},
			{Key: "admin", Title: "Administration:"},
			{Key: "log", Title: "The log:"},
			{Key: "own", Title: "A deployment of its own:"},
			{Key: "kafka", Title: "Brokers:"},
			{Key: "webhooks", Title: "Webhooks:"},
			{Key: "process", Title: "The process:"},
			{Key: "output", Title: "Output:"},
		}),
	)
	if err != nil {
		panic(err) // the grammar above is wrong; any test finds it
	}
	return parser
}
