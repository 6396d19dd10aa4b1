package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// demoCmd is sluice with everybody who would use it, all in one process, but
// talking over real connections.
//
//	             publisher (the platform: trades in a loop)
//	                 │ POST /v1/events
//	                 ▼
//	  /v1/ws ◄─── sluice ───► POST /hook
//	    │                        │
//	 solvers, taker           the taker's accounting (verifies; refuses one in six)
//	    └───────► board ◄────────┘   a line for each happening, and the accounts
//
//	demo.go          this picture
//	demo_trades.go   the publisher
//	demo_streams.go  solvers and taker
//	demo_receiver.go accounting
//	demo_board.go    what is printed, and whether everything came
type demoCmd struct {
	Listen   address  `default:"127.0.0.1:8080" env:"SLUICE_LISTEN" placeholder:"HOST:PORT" help:"Where to listen; a free port is taken when this one is busy. Default: ${default}."`
	Data     string   `placeholder:"DIR" help:"Where to keep the log. Default: a new directory, removed at the end."`
	Duration duration `default:"0s" placeholder:"TIME" help:"Stop by itself after this time, as in 30s. Default: run until Ctrl-C."`
}

// Help is shown by sluice demo --help.
func (demoCmd) Help() string {
	return `Plays trades on a TetraFi-like market: requests for quotes go to every solver, quotes to the taker
alone, settlements to the taker's accounting by signed webhook. Accounting refuses one delivery in six,
so that retries are seen, and verifies every signature. Nothing outside this machine is called.

Exits with 0 if everything published was received by everybody who should have it, and verified.`
}

// The market's orgs. The platform is the org that every log begins with.
const (
	demoPlatform = "org_default"
	demoTaker    = "org_taker"
	demoAlpha    = "org_solver_alpha"
	demoBeta     = "org_solver_beta"
)

// demoPatience is how long the end waits for what is owed: a retry takes 5 s.
const demoPatience = 12 * time.Second

func (c *demoCmd) Run(ctx context.Context, s std) error {
	data := c.Data
	if data == "" {
		dir, err := os.MkdirTemp("", "sluice-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		data = filepath.Join(dir, "data")
	}
	n, err := c.start(ctx, data, s)
	if err != nil {
		return err
	}
	defer func() {
		drain, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		n.Stop(drain)
	}()
	return c.play(ctx, n, s)
}

// start starts sluice, on a free port when its own is busy.
func (c *demoCmd) start(ctx context.Context, data string, s std) (*node, error) {
	cfg := nodeConfig{
		Listen: string(c.Listen), Ops: "127.0.0.1:0", Data: data, Prefix: "sluice.",
		Private: prefixes{Set: true}, HTTP: true,
		Logger: newLogger(s.Err, "text", slog.LevelWarn),
	}
	n, err := startNode(ctx, cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		fmt.Fprintf(s.Err, "%s is in use: taking a free port\n", c.Listen)
		host, _, _ := net.SplitHostPort(cfg.Listen)
		cfg.Listen = net.JoinHostPort(host, "0")
		n, err = startNode(ctx, cfg)
	}
	return n, err
}

// play sets the market up, lets it run, and settles the accounts.
func (c *demoCmd) play(ctx context.Context, n *node, s std) error {
	m := &market{base: n.URL(), board: newBoard(s.Out)}
	if err := m.open(ctx, n); err != nil {
		return err
	}
	receiver, err := m.startAccounting(ctx)
	if err != nil {
		return err
	}
	defer receiver.stop()

	streaming, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	var streams sync.WaitGroup
	defer streams.Wait()
	defer hangUp()
	for _, sub := range m.subscribers() {
		ready := make(chan error, 1)
		streams.Go(func() { sub.run(streaming, ready) })
		if err := <-ready; err != nil {
			return err
		}
	}

	m.board.header(m, time.Duration(c.Duration))
	trading := ctx
	if c.Duration > 0 {
		var stop context.CancelFunc
		trading, stop = context.WithTimeout(ctx, time.Duration(c.Duration))
		defer stop()
		receiver.failUntil(time.Now().Add(time.Duration(c.Duration) - 6*time.Second))
	}
	err = m.trade(trading)
	m.board.settle(demoPatience)
	return errors.Join(err, m.board.verdict())
}

// market is the demo's cast: who has which key.
type market struct {
	base     string
	board    *board
	platform string // keys
	taker    string
	alpha    string
	beta     string
}

// open makes the orgs and their keys, as an operator would.
func (m *market) open(ctx context.Context, n *node) error {
	admin := &client{base: n.OpsURL(), token: n.AdminToken(), address: "--ops", secret: "--admin-token"}
	cast := []struct {
		org, name string
		scopes    []string
		key       *string
	}{
		{demoPlatform, "Platform", []string{"publish", "broadcast", "subscribe"}, &m.platform},
		{demoTaker, "Taker", []string{"subscribe", "manage"}, &m.taker},
		{demoAlpha, "Solver alpha", []string{"subscribe"}, &m.alpha},
		{demoBeta, "Solver beta", []string{"subscribe"}, &m.beta},
	}
	for _, who := range cast {
		_, err := admin.call(ctx, http.MethodPost, "/admin/v1/orgs", map[string]string{"id": who.org, "name": who.name}, nil)
		var refused *refusedError
		if err != nil && !(errors.As(err, &refused) && refused.status == http.StatusConflict) { // there already
			return fmt.Errorf("make %s: %w", who.org, err)
		}
		var made apiKey
		in := map[string]any{"environment": "sandbox", "name": "demo", "scopes": who.scopes}
		if _, err := admin.call(ctx, http.MethodPost, "/admin/v1/orgs/"+who.org+"/keys", in, &made); err != nil {
			return fmt.Errorf("make key of %s: %w", who.org, err)
		}
		*who.key = made.Key
	}
	return nil
}
