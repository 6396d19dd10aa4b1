// Package kafka is the log on brokers: Kafka, Redpanda, whatever speaks their
// protocol.
//
//	kafka.go    Config, Open, Close
//	topics.go   the topics as they must be, made or looked at
//	append.go   Append: all replicas, no linger, a bound instead of a queue
//	read.go     Bounds, Read, OffsetAt, Trim: one request each, to the leader
//	tail.go     Tail: consumers that many tails share
//	fill.go     Fill: a log that another is copied into, not yet to be used
//	own.go      Own: a group that hands out partitions and notices the dead
//	fetch.go    a fetch, and who leads a partition
//	messages.go what the client has to say, and how often
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"sluice/pkg/eventlog"
)

// Config says where the brokers are and which topics there must be.
type Config struct {
	Brokers []string // host:port; any of the cluster
	// Prefix stands before the names of topics and groups, so that deployments can
	// share a cluster.
	Prefix string
	// Topics are made where they aren't there yet.
	Topics []eventlog.Topic
	TLS    *tls.Config // nil: plain text
	SASL   *SASL       // nil: none
	Logger *slog.Logger

	// Session is how long an owner may be silent before it counts as dead; 0: 6 s,
	// less than which brokers refuse by default.
	Session time.Duration
	// Dial replaces the network, in tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// SASL is how we say who we are.
type SASL struct {
	Mechanism      string // plain, scram-sha-256 or scram-sha-512
	User, Password string
}

const (
	// answerTimeout bounds what a caller waits for the brokers: appends, reads.
	answerTimeout = 5 * time.Second
	// startTimeout bounds what a start waits until they answer, and until topics that
	// are there can be used; topicsTimeout making, deleting and changing all topics.
	startTimeout  = 15 * time.Second
	topicsTimeout = 2 * time.Minute
	// bufferBytes bounds what waits to be appended.
	bufferBytes = 2 * eventlog.MaxAppend
	// metadataMinAge: the default of 5 s would stall a produce for as long when a
	// leader moves.
	metadataMinAge = 50 * time.Millisecond
	session        = 6 * time.Second
)

// Log is a log on brokers. It implements eventlog.Log.
type Log struct {
	cfg    Config
	logger *slog.Logger
	topics map[string]eventlog.Topic

	producer *kgo.Client
	reader   *kgo.Client
	admin    *kadm.Client
	buffered atomic.Int64 // bytes of appends under way

	filling bool // records keep the times that they are appended with

	said *clientLog

	mu      sync.Mutex
	layers  []*layer
	closing bool

	ctx  context.Context // ends with Close
	end  context.CancelFunc
	once sync.Once
	wg   sync.WaitGroup // appends, owners, what tails need
}

var _ eventlog.Log = (*Log)(nil)

// Open connects to the brokers and makes sure of the topics. Its errors name the
// brokers; ErrNoAnswer, ErrSignIn and ErrMayNotCreate are in those that a setting
// may mend.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	return open(ctx, cfg, (*Log).ensureTopics)
}

// open connects, and has prepare see to the topics.
func open(ctx context.Context, cfg Config, prepare func(*Log, context.Context) error) (*Log, error) {
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("no brokers are named")
	}
	l := &Log{cfg: cfg, logger: cfg.Logger, topics: make(map[string]eventlog.Topic)}
	l.ctx, l.end = context.WithCancel(context.WithoutCancel(ctx))
	if l.logger == nil {
		l.logger = slog.Default()
	}
	l.said = &clientLog{logger: l.logger, told: make(map[string]*repeats)}
	if l.cfg.Session == 0 {
		l.cfg.Session = session
	}
	for _, t := range cfg.Topics {
		if t.Name == "" || t.Partitions < 1 {
			return nil, fmt.Errorf("topic %q with %d partitions can't be made: it needs a name and at least one partition", t.Name, t.Partitions)
		}
		if _, twice := l.topics[t.Name]; twice {
			return nil, fmt.Errorf("topic %q is named twice", t.Name)
		}
		l.topics[t.Name] = t
	}
	if err := l.connect(ctx, prepare); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Log) connect(ctx context.Context, prepare func(*Log, context.Context) error) (err error) {
	// Fetches are asked for by name, which versions after 12 don't do.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(fetchKey, 12)
	if l.reader, err = l.client(kgo.MaxVersions(versions)); err != nil {
		return l.startError(err)
	}
	if err := l.ping(ctx); err != nil {
		return l.startError(err)
	}
	l.admin = kadm.NewClient(l.reader)
	ctx, cancel := context.WithTimeout(ctx, topicsTimeout)
	defer cancel()
	if err := prepare(l, ctx); err != nil {
		return l.startError(err)
	}
	// Before our caller gives up, so that the next append doesn't find what failed
	// still buffered, and fail with it. It is counted from a record's own time.
	deliver := answerTimeout - time.Second
	if l.filling {
		deliver = 0
	}
	l.producer, err = l.client(
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(deliver),
		// What was given up may be repeated by whoever gave it up, and is deduplicated
		// there; waiting for a broker that hangs would fill the buffer.
		kgo.AllowIdempotentProduceCancellation(),
		kgo.ProduceRequestTimeout(answerTimeout),
		kgo.MaxBufferedRecords(1<<30), // buffered bounds the bytes
		kgo.UnknownTopicRetries(5),
	)
	if err != nil {
		return l.startError(err)
	}
	return nil
}

// client makes a client; what all of them share comes first.
func (l *Log) client(more ...kgo.Opt) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(l.cfg.Brokers...),
		kgo.ClientID("sluice"),
		kgo.MetadataMinAge(metadataMinAge),
		kgo.MetadataMaxAge(time.Minute),
		kgo.DialTimeout(answerTimeout),
		kgo.RequestTimeoutOverhead(answerTimeout),
		kgo.RetryTimeout(answerTimeout),
		kgo.DisableClientMetrics(),
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(20*time.Millisecond<<min(tries, 6), 500*time.Millisecond)
		}),
		kgo.WithLogger(l.said),
	}
	if l.cfg.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(l.cfg.TLS))
	}
	if l.cfg.Dial != nil {
		opts = append(opts, kgo.Dialer(l.cfg.Dial))
	}
	if s := l.cfg.SASL; s != nil {
		switch strings.ToLower(s.Mechanism) {
		case "plain":
			opts = append(opts, kgo.SASL(plain.Auth{User: s.User, Pass: s.Password}.AsMechanism()))
		case "scram-sha-256":
			opts = append(opts, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism()))
		case "scram-sha-512":
			opts = append(opts, kgo.SASL(scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism()))
		default:
			return nil, fmt.Errorf("SASL mechanism %q isn't known: use plain, scram-sha-256 or scram-sha-512", s.Mechanism)
		}
	}
	return kgo.NewClient(append(opts, more...)...)
}

// Why Open failed, where the operator can mend it.
var (
	ErrNoAnswer     = errors.New("none of them answers")
	ErrSignIn       = errors.New("they don't let this user in")
	ErrMayNotCreate = errors.New("topics are missing, and this user may not create them")
)

// ping waits for any broker to answer, for as long as a start may take.
func (l *Log) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := l.reader.Ping(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Errorf("%w: %w", ErrSignIn, err)
	}
	return fmt.Errorf("%w: %w", ErrNoAnswer, err)
}

func (l *Log) startError(err error) error {
	return fmt.Errorf("brokers %s: %w", strings.Join(l.cfg.Brokers, ","), err)
}

func (l *Log) name(topic string) string { return l.cfg.Prefix + topic }

func (l *Log) names() []string {
	names := make([]string, 0, len(l.topics))
	for name := range l.topics {
		names = append(names, l.name(name))
	}
	return names
}

// known tells whether the partition is one of ours.
func (l *Log) known(p eventlog.Partition) error {
	if t, ok := l.topics[p.Topic]; !ok || p.Number < 0 || p.Number >= t.Partitions {
		return fmt.Errorf("the log has no partition %d of topic %q", p.Number, p.Topic)
	}
	return nil
}

// enter begins a call that Close waits for; the caller calls l.wg.Done.
func (l *Log) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return eventlog.ErrClosed
	}
	l.wg.Add(1)
	return nil
}

// call begins a call that asks the brokers: bounded in time, ended by Close. The
// caller calls end.
func (l *Log) call(ctx context.Context, p eventlog.Partition) (_ context.Context, end func(), err error) {
	if err := l.enter(); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(ctx.Err(), l.known(p)); err != nil {
		l.wg.Done()
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	stop := context.AfterFunc(l.ctx, cancel)
	return ctx, func() { stop(); cancel(); l.wg.Done() }, nil
}

// errNoAnswer is the cause of an end that no caller asked for.
var errNoAnswer = errors.New("the brokers didn't answer in time")

// callError says why a call failed: its caller's context, Close, or the brokers.
func (l *Log) callError(ctx context.Context, what string, p eventlog.Partition, err error) error {
	if l.isClosed() {
		return eventlog.ErrClosed
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return fmt.Errorf("%s partition %d of topic %s on brokers %s: %w", what, p.Number, l.name(p.Topic), strings.Join(l.cfg.Brokers, ","), err)
}

func (l *Log) isClosed() bool { return l.ctx.Err() != nil }

// Close waits for what is being appended, ends tails and work, and leaves the
// brokers.
func (l *Log) Close() error {
	l.once.Do(func() {
		l.mu.Lock()
		l.closing = true
		layers := l.layers
		l.mu.Unlock()
		if l.producer != nil {
			ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
			_ = l.producer.Flush(ctx) // whoever appends is told how it went
			cancel()
		}
		l.end()
		for _, layer := range layers {
			layer.close()
		}
		l.wg.Wait()
		if l.producer != nil {
			l.producer.Close()
		}
		if l.reader != nil {
			l.reader.Close()
		}
	})
	return nil
}
