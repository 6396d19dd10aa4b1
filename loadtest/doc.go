// Package loadtest drives a deployment from outside, breaks it meanwhile, and
// holds what came out against what was acknowledged.
//
//	publishers ──► api ──┐            ┌──► gateway ──► stream clients
//	     │               ├──► broker ─┤                     │
//	     │           nemesis (kill -9, SIGSTOP, SIGTERM)    │
//	     │               │            └──► dispatcher ──► receivers
//	     ▼               ▼                                  ▼
//	   acknowledged    faults                             seen
//	     └───────────────┴────────► ledger ◄────────────────┘
//
// The deployment is six processes with a role or two each, on a broker of its own.
// Nothing in here knows what is inside them: events go in at the front door, and
// the WebSocket client, the HTTP server and the check of signatures are others'.
//
//	ledger/           what was promised, what was seen, and whether they agree
//	fleet/            the processes, what breaks them, one address before several
//	broker_test.go    the broker        fleet_test.go     a test's processes
//	publish_test.go   events in         receive_test.go, stream_test.go  events out
//	load_test.go      all three at once, and the end: wait, read the log, check
//	nemesis_test.go   faults by seed    rolling_test.go, gateway_test.go one fault each
//	watch_test.go, gauges_test.go       what processes keep
//	ugly_test.go      clients that leave in every way that is no good (guest_test.go)
//	states_test.go    what is shown and counted meanwhile
//
// Beside these tests is sluice loadtest, for whoever runs a deployment of their own:
//
//	drive/            loads one that runs, or a fleet, by a scenario, and times what comes back
//	book/             a ledger that keeps next to nothing, for millions of events
package loadtest
