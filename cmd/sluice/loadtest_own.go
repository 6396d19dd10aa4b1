package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sluice/loadtest/drive"
	"sluice/loadtest/fleet"
)

// ownFleet is a deployment that a run starts for itself, of this program.
//
//	run ──► Balancer ──► api …        ◄── orgs and keys, by the admin API
//	  └───► Balancer ──► gateway …
type ownFleet struct {
	*fleet.Fleet
	api, gateways *fleet.Balancer
}

// startOwn starts the scenario's processes, makes orgs, and has the run use them. What
// it gives is to be stopped.
func (c *loadtestCmd) startOwn(ctx context.Context, cfg *drive.Config) (*ownFleet, error) {
	dir, err := c.logs()
	if err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cfg.Binary = binary
	f, err := fleet.New(fleet.Config{Binary: cmp.Or(c.From, binary), Dir: dir, Brokers: c.Brokers.String(), Prefix: fmt.Sprintf("load%d.", time.Now().UnixNano()), Roles: c.scenario.Processes})
	if err != nil {
		return nil, err
	}
	cfg.Say(fmt.Sprintf("seed %d; %d processes are started, whose logs are in %s", cfg.Seed, len(f.Nodes), dir))
	if len(c.Brokers) > 0 {
		cfg.Say("their topics begin with " + f.Prefix + ", and stay when all is over")
	}
	own := &ownFleet{Fleet: f}
	if cfg.Keys, err = own.begin(ctx, c.scenario); err != nil {
		return nil, errors.Join(err, own.stop())
	}
	cfg.Fleet, cfg.URL, cfg.Stream = f, "http://"+own.api.Address, "http://"+own.gateways.Address
	return own, nil
}

// logs gives the directory for what processes keep and say.
func (c *loadtestCmd) logs() (string, error) {
	if c.Logs == "" {
		return os.MkdirTemp("", "sluice-loadtest-logs-")
	}
	dir, err := filepath.Abs(c.Logs)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	return dir, err
}

// begin returns when all processes are ready, and gives a key of each org.
func (o *ownFleet) begin(ctx context.Context, s *drive.Scenario) (keys []string, err error) {
	if err = o.Start(ctx); err != nil {
		return nil, err
	}
	if o.api, err = fleet.Balance(o.With("api")); err != nil {
		return nil, err
	}
	if o.gateways, err = fleet.Balance(o.With("gateway")); err != nil {
		return nil, err
	}
	admin := &client{base: "http://" + o.With("api")[0].Ops, token: fleet.AdminToken}
	for i := range s.Orgs {
		id := fmt.Sprintf("org_load%d", i+1)
		if _, err := admin.call(ctx, http.MethodPost, "/admin/v1/orgs", map[string]string{"id": id, "name": id}, nil); err != nil {
			return nil, err
		}
		var made apiKey
		in := map[string]any{"environment": "sandbox", "scopes": []string{"publish", "broadcast", "subscribe", "manage"}}
		if _, err := admin.call(ctx, http.MethodPost, "/admin/v1/orgs/"+id+"/keys", in, &made); err != nil {
			return nil, err
		}
		keys = append(keys, made.Key)
	}
	return keys, nil
}

// stop ends all processes.
func (o *ownFleet) stop() error {
	for _, b := range []*fleet.Balancer{o.api, o.gateways} {
		if b != nil {
			b.End()
		}
	}
	return o.Stop()
}
