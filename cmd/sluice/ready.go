package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// readyCmd asks a running process whether it is ready: for health checks in
// images that have no shell, and for people.
type readyCmd struct {
	Ops address `default:"127.0.0.1:9090" env:"SLUICE_OPS" placeholder:"HOST:PORT" help:"Address of the ops server. Default: ${default}."`
}

// Help is shown by sluice ready --help.
func (readyCmd) Help() string {
	return `Prints what /readyz on --ops says, a line for each part of the process. The exit code is 0 when all are
ready, and 1 when one isn't, or nobody answers within five seconds.

Example:

    sluice ready --ops 127.0.0.1:9090`
}

const readyWithin = 5 * time.Second

func (c *readyCmd) Run(ctx context.Context, s std) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(c.Ops)+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask %s: %w: is sluice serve running, and is --ops its ops address?", c.Ops, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.Ops, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		fmt.Fprint(s.Out, string(text))
		return nil
	case http.StatusServiceUnavailable:
		fmt.Fprint(s.Out, string(text))
		return errors.New("not ready")
	default:
		return fmt.Errorf("%s is no ops server: it answered %s: %.100s", c.Ops, resp.Status, strings.TrimSpace(string(text)))
	}
}
