// Package usage counts what orgs use, on however many processes, and tells each
// node with the role api or dispatcher what it comes to.
//
//	web, ingest, lanes, streams ─► Meter ─ twice a second ─► "usage" ─► Totals ─► months and days of each org
//	                          atomic adds   a delta        ▲    │    │
//	                                 ▲                     │    │    │
//	                          web ─► Minutes ◄─────────────│────┤    │ what others counted
//	                        lanes ─► Quota ◄───────────────│────┘    │
//	                                                       └─────────┘ now and then: a checkpoint
//
//	usage.go       what is counted
//	meter.go       Meter: counts here, and deltas of them to the log
//	minutes.go     Minutes: API requests in a minute, by which they are limited
//	quota.go       Quota: deliveries in a month, by which they are limited
//	record.go      what lies in the topic
//	book.go        deltas folded
//	totals.go      Totals: the book of all there are, kept up with the log
//	checkpoint.go  the book in the log, so that a start is quick
//
// # How exact it is
//
// A delta is numbered by who wrote it, and counts once however often it is
// appended; one that the log didn't take is appended again. So what is counted
// survives restarts and a log that fails for a while. A process that is killed
// loses what it counted since its last delta, half a second's at most while the log
// answers. What happens twice because of a kill, such as an attempt that was
// under way, is counted twice.
//
// Days and months are those of the log's clock, in UTC, when a delta was
// appended: about half a second after what it counts.
//
// Processes that have an org's requests at once let in more than its plan allows until
// they have heard of one another, which takes them less than a second. So it is with
// the deliveries of a month: past the quota may go what others began within that.
package usage

import (
	"time"

	"sluice/pkg/eventlog"
)

// Topic is where deltas and checkpoints are kept. What lies before the newest
// checkpoint is given up when that is durable: a delta a second for each process
// would otherwise come to more than many an org's events. That one stays for as
// long as the book remembers anything, though nothing be counted any more.
var Topic = eventlog.Topic{Name: "usage", Partitions: 1, Retention: keptWriters * 24 * time.Hour}

var partition = eventlog.Partition{Topic: Topic.Name}

// Kind is what is counted.
type Kind int

// The kinds. Their order is that of numbers in the log: new ones come last.
const (
	Published Kind = iota // events of the org's that the log acknowledged; not those written to brokers directly
	Attempts              // attempts at its deliveries whose outcomes are durable; not tests
	Delivered             // those among them that succeeded
	Streamed              // events written to its connections
	Requests              // of the API, those that count against its plan
	Metered               // deliveries that count against its plan, when their first attempt's outcome is durable
	kinds
)

// Counts has a number for each Kind.
type Counts [kinds]int64

func (c *Counts) add(more *Counts) {
	for k := range more {
		c[k] += more[k]
	}
}
