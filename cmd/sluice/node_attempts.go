package main

import (
	"context"
	"path/filepath"

	"sluice/gateway/manage"
	"sluice/gateway/web"
	"sluice/pkg/attempts"
	"sluice/pkg/attempts/index"
	"sluice/pkg/attempts/postgres"
)

// attemptsDir is the index of deliveries, in the data directory. It may be removed
// while nothing runs: it is made anew from the log.
const attemptsDir = "attempts"

// serveDeliveries adds the calls that tell what became of deliveries, and gives who
// answers them.
//
//	tier.0s, held, dead, attempts ─► view ─► index in --data, or --attempts-db ─► GET …/deliveries
func (n *node) serveDeliveries(server *web.Server, core *manage.Core, events *manage.Events) (*manage.Deliveries, error) {
	calls := &manage.Deliveries{Core: core, Events: events, Log: n.log}
	store, err := n.attemptsStore()
	if err != nil {
		return nil, err
	}
	if store == nil {
		n.cfg.Logger.Warn("deliveries aren't listed: there is neither --attempts-db nor a data directory to keep their index in")
	} else {
		n.onStop(func(context.Context) error { return store.Close() })
		calls.View = attempts.New(attempts.Config{Log: n.log, Control: n.control, Store: store, Logger: n.cfg.Logger, Registerer: n.metrics})
		stop := n.start("attempts", calls.View.Run)
		n.onStop(func(context.Context) error { stop(); return nil })
	}
	for _, route := range calls.Routes() {
		server.Handle(route)
	}
	return calls, nil
}

// attemptsStore opens what deliveries are listed from; nil: there is nothing.
func (n *node) attemptsStore() (attempts.Store, error) {
	if n.cfg.AttemptsDB != "" {
		return postgres.Open(postgres.Config{URL: n.cfg.AttemptsDB, Name: n.cfg.Prefix, Logger: n.cfg.Logger})
	}
	if n.data == nil {
		return nil, nil
	}
	return index.Open(index.Config{Dir: filepath.Join(n.cfg.Data, attemptsDir), Logger: n.cfg.Logger})
}
