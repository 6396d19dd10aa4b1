// Package stream serves events on WebSockets, and as server-sent events, to any
// number of clients, in order and as they are logged. Nobody waits for anybody: a
// client that doesn't keep up loses the oldest of what waits for it, and is told so
// in its place; or it reads on from the log, where it is to lose nothing.
//
//	events.<env> ─► tail ─► entry ─┬─► window (replay's)
//	                (hub.go)       └─► inbox ─► shard ─► queue ─► carrier ─► client
//	                                 (shard.go, index.go)  (queue.go)  (taken.go, wrapped.go)
//	client ─► carrier ─► parser ─► command ─► shard
//	                  (input.go, parser.go)   (commands.go)
//	      └─► request of an event stream ───► shard
//	                  (sse.go)
//
// Hand-overs, and who owns what:
//
//   - A tail per environment decodes each record once. Its event is encoded at most
//     once per form (a dialect's WebSocket, a dialect's event stream) into a finished
//     frame, shared by all receivers, and deflated at most once more for all who
//     inflate. Inboxes are bounded: the tail waits for the slowest shard and drops
//     nothing.
//   - A shard owns its connections' subscriptions and their index. What changes them
//     comes through the inbox too, so a subscribe stands at a definite offset. Where the
//     shard's goroutine has nothing to do, who calls is the shard meanwhile.
//   - Everything that goes out, control frames too, goes through a connection's queue,
//     so frames never mix. Who takes it from there is the connection's carrier. Of a
//     plain socket the descriptor is taken over (epoll): the shard itself writes, all
//     that a connection is to have with one system call, and the shard's poller reads,
//     until it would have to wait: then another polls on. Anything else, such as TLS, has a goroutine
//     that reads and one that writes.
//
// Reading order: hub.go shard.go index.go filter.go bearers.go; upgrade.go admit.go conn.go
// taken.go taken_read.go wrapped.go input.go commands.go sse.go; queue.go output.go resume.go behind.go
// turns.go sharing.go; clock.go drain.go ending.go lag.go metrics.go; form.go frame.go parser.go utf8.go
// deflate.go; echo.go.
package stream

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/key"
	"sluice/pkg/usage"
	"sluice/replay"
)

// Access says who a token stands for: the control state.
type Access interface {
	// Authenticate waits some seconds at most.
	Authenticate(ctx context.Context, token string) (*key.Principal, error)
	// Known is Authenticate where nothing has to be waited for; nil: ask that.
	Known(token string) *key.Principal
	// Key gives a key that stands; nil: it was taken away. It doesn't wait.
	Key(id string) *control.Key
	// Watch tells of every change from now on, keys taken away among them.
	Watch(fn func(control.Change)) (stop func())
}

// Config is what a hub is made of.
type Config struct {
	Log         eventlog.Reader
	Access      Access
	Usage       *usage.Meter // counts what is sent; nil: nobody does
	Past        map[event.Environment]*replay.Reader
	Windows     map[event.Environment]*replay.Window // what the readers look into first; the hub fills them
	Incarnation event.Incarnation
	Streams     []*dialect.Stream
	SSE         []*dialect.SSE
	Origins     []string              // web origins that may come with cookies, beside the host's own: https://app.example
	Limits      Limits                // zero members: the defaults
	Compress    bool                  // messages are deflated for clients that offer to inflate them, and inflated
	Coalesce    time.Duration         // for how long events wait for others since some were last written (0: not at all)
	Shards      int                   // 0: GOMAXPROCS
	Logger      *slog.Logger          // nil: none
	Metrics     prometheus.Registerer // nil: none
}

// Limits bounds what clients may take. Every member's zero value stands for its
// default.
type Limits struct {
	QueueEvents int // events waiting for one client (256)
	QueueBytes  int // bytes of them (1 MiB)
	SendBuffer  int // SO_SNDBUF of a connection in bytes (64 KiB): without it the kernel hides megabytes of a slow client
	InboxBytes  int // events waiting for one shard, in bytes (8 MiB)

	Message      int // bytes of one message from a client, and of all that one subscribes to (64 KiB)
	FirstMessage int // bytes of one message from a client that isn't authenticated (16 KiB)
	Fragments    int // of one message (1,024)
	Patterns     int // of one connection (100)
	BadMessages  int // the one that closes (5)
	// Rate and Burst bound the frames of one client a second (100, 200). A message
	// beyond them is answered with rate_limited and not acted on; who goes on for
	// another Burst is closed with 1008.
	Rate, Burst int

	PerOrg       int           // connections of one org (20,000)
	OrgPatterns  int           // of all connections of one org together, a filter counting as 10 (200,000)
	Unauth       int           // connections that aren't authenticated (4,096); one address has half of them at most
	Replay       int           // events replayed at most (100)
	Replays      int           // connections that read the past at the same time (16)
	ReplayWithin time.Duration // until a replay is given up (30 s)

	Auth      time.Duration // from the connection to its auth (10 s)
	Ping      time.Duration // between pings (30 s)
	Heartbeat time.Duration // the same, of clients that say nothing (15 s)
	Silent    time.Duration // without a frame, until it is closed (90 s)
	Stall     time.Duration // full and no byte taken, until it is closed (30 s)
	Linger    time.Duration // for the last messages and the closing handshake (5 s)
}

func (l *Limits) fill() {
	l.QueueEvents = cmp.Or(l.QueueEvents, 256)
	l.QueueBytes = cmp.Or(l.QueueBytes, 1<<20)
	l.SendBuffer = cmp.Or(l.SendBuffer, 64<<10)
	l.InboxBytes = cmp.Or(l.InboxBytes, 8<<20)
	l.Message = cmp.Or(l.Message, 64<<10)
	l.FirstMessage = cmp.Or(l.FirstMessage, 16<<10)
	l.Fragments = cmp.Or(l.Fragments, 1024)
	l.Patterns = cmp.Or(l.Patterns, 100)
	l.BadMessages = cmp.Or(l.BadMessages, 5)
	l.Rate = cmp.Or(l.Rate, 100)
	l.Burst = cmp.Or(l.Burst, 200)
	l.PerOrg = cmp.Or(l.PerOrg, 20_000)
	l.OrgPatterns = cmp.Or(l.OrgPatterns, 200_000)
	l.Unauth = cmp.Or(l.Unauth, 4096)
	l.Replay = cmp.Or(l.Replay, 100)
	l.Replays = cmp.Or(l.Replays, 16)
	l.ReplayWithin = cmp.Or(l.ReplayWithin, 30*time.Second)
	l.Auth = cmp.Or(l.Auth, 10*time.Second)
	l.Ping = cmp.Or(l.Ping, 30*time.Second)
	l.Heartbeat = cmp.Or(l.Heartbeat, 15*time.Second)
	l.Silent = cmp.Or(l.Silent, 90*time.Second)
	l.Stall = cmp.Or(l.Stall, 30*time.Second)
	l.Linger = cmp.Or(l.Linger, 5*time.Second)
}

func (c *Config) fill() {
	c.Limits.fill()
	c.Shards = cmp.Or(c.Shards, runtime.GOMAXPROCS(0))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}
