// Package eventlog is the log under everything: topics of partitions of
// records, appended durably, read by offset, kept for a time. It is the one
// package that knows what is below: a directory of ours (embedded, on Pebble)
// or a cluster of brokers (Kafka, Redpanda). Both pass the suite in
// eventlogtest, and nothing above can tell them apart.
//
//	       Log (log.go)
//	      ┌────┴─────┐
//	embedded/      kafka/          eventlogtest/
//
// The design needs no compaction, no transactions and no committed group
// offsets, so that both sides can be exactly the same.
package eventlog

import (
	"context"
	"errors"
	"time"
)

// Topic is what a topic is made with.
type Topic struct {
	Name       string
	Partitions int32
	Retention  time.Duration // age past which records may go; 0: kept until trimmed
	// Yields says that appends to the topic are refused with ErrFull while there is
	// still room for those to others: whoever appends can try again later, and what
	// is in the log can be worked off meanwhile. An append to several topics yields
	// when one of them does. Brokers don't tell how full they are: Kafka has no use
	// for it, and an append that they refuse is an error like any other.
	Yields bool
}

// Partition names one partition of a topic.
type Partition struct {
	Topic  string
	Number int32
}

// Record is one entry of a partition. Offset and Time are the log's to set: an
// offset is one more than the one before in its partition, but readers must
// allow for holes, and Time (UTC, milliseconds) never decreases within a
// partition.
type Record struct {
	Partition
	Offset int64
	Time   time.Time
	Key    []byte // optional; for whoever looks at a topic with other tools
	Value  []byte
}

// Bounds of the log.
const (
	// MaxRecord bounds key and value of a record together, in bytes.
	MaxRecord = 900 << 10
	// MaxAppend bounds the records of one Append together, in bytes.
	MaxAppend = 64 << 20
	// Lateness is how long after the call an Append may still be tried that has
	// returned an error. What a broker has been sent by then it may add later still.
	Lateness = 4 * time.Second
)

// Errors that callers tell apart. All others mean that the log could not do it
// now; for Append, that the outcome is unknown.
var (
	// ErrTooOld is returned by reads below the start of a partition: what was there is gone.
	ErrTooOld = errors.New("offset is older than what the log keeps")
	// ErrPastEnd is returned by reads beyond the end of a partition: the offset is of another log.
	ErrPastEnd = errors.New("offset is past the end of the log")
	// ErrDamaged is returned by reads of what is there, and damaged: trying again
	// doesn't help.
	ErrDamaged = errors.New("can't be read")
	// ErrFull is returned by Append when the log has no room for records of this
	// kind; none of them was appended.
	ErrFull = errors.New("log is full")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("log is closed")
)

// Log is one log, embedded or on brokers. All methods may be called from any
// number of goroutines.
type Log interface {
	Appender
	Reader
	Keeper
}

// Appender adds records.
type Appender interface {
	// Append adds the records, each to its partition, in the order given within
	// one partition, and returns their offsets once every one of them is durable.
	// On an error some of them may be in the log all the same, or come to be within
	// Lateness. Concurrent calls
	// share their syncs. It keeps neither the slice nor the bytes after it
	// returns.
	Append(ctx context.Context, records []Record) ([]int64, error)
}

// Reader reads records. Nothing that isn't durable is ever returned.
type Reader interface {
	// Bounds gives the offset of the oldest record kept and the one that the next
	// record will get. They are equal when the partition is empty.
	Bounds(ctx context.Context, p Partition) (start, end int64, err error)

	// Read returns records from the offset on, at least one unless from is the
	// end, and about maxBytes of them at most; it doesn't wait for more to be
	// appended. ErrTooOld and ErrPastEnd say that from lies outside Bounds. The
	// records and their bytes are the caller's.
	Read(ctx context.Context, p Partition, from int64, maxBytes int) ([]Record, error)

	// OffsetAt gives the first offset whose record was appended at t or later, or
	// the end.
	OffsetAt(ctx context.Context, p Partition, t time.Time) (int64, error)

	// Tail follows a partition from the offset on. The caller closes it.
	Tail(ctx context.Context, p Partition, from int64) (Tail, error)
}

// Tail follows one partition. It is used by one goroutine; Close may be called
// from another.
type Tail interface {
	// Next waits for records behind those it returned before, and returns at least
	// one, which other tails may have as well: nobody changes them. It reads ahead
	// within a bound, whatever its caller does. ErrTooOld says that records it had not
	// yet read are gone.
	Next(ctx context.Context) ([]Record, error)
	// Close ends the tail and whoever waits in Next, which returns ErrClosed.
	Close()
}

// Share is one partition that falls to a process.
type Share struct {
	Partition int32
	// Ours reports whether the partition is still this process's, by the clock: a
	// process that was stopped for a while knows it from here before the end of
	// work's context has reached all of its goroutines. Where that ended in order,
	// the partition is ours until work returns. It is for whoever is about to do what
	// can't be undone, costs next to nothing, and may be called from any number of
	// goroutines.
	Ours func() bool
}

// Keeper looks after what is kept and who may work on it.
type Keeper interface {
	// Trim gives up the records below the offset. It may take its time.
	Trim(ctx context.Context, p Partition, before int64) error

	// Own shares the partitions of a topic among all processes that call it, each
	// partition to one at a time, and runs work for each that falls to this
	// process. The context of work ends when its partition goes to somebody else,
	// when the coordinator has been silent for half of its time-out, or when ctx
	// ends; until work has returned, nobody else is given the partition, except
	// when this process seems dead, or work takes seconds to return: then two may
	// work on it for a while, and it is theirs to find out which of them counts.
	// Own returns when ctx has ended and all work has returned.
	Own(ctx context.Context, topic string, work func(ctx context.Context, share Share)) error

	// Scarce reports whether appends to topics that yield are refused for want of
	// room: whoever makes work that can wait leaves it then. It costs next to nothing.
	Scarce() bool

	// Close waits for what is being appended, then gives the log up.
	Close() error
}
