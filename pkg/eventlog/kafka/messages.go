package kafka

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// sayEvery is how often one message of the client is passed on: with a broker
// gone, it has the same to say dozens of times a second.
const sayEvery = 10 * time.Second

// clientLog passes on what the clients warn of.
type clientLog struct {
	logger *slog.Logger

	mu   sync.Mutex
	told map[string]*repeats // by message; the client's messages are constants
}

type repeats struct {
	last   time.Time
	hushed int // since then
}

func (*clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (c *clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	c.mu.Lock()
	r := c.told[msg]
	if r == nil {
		r = new(repeats)
		c.told[msg] = r
	}
	if time.Since(r.last) < sayEvery {
		r.hushed++
		c.mu.Unlock()
		return
	}
	if r.hushed > 0 {
		keyvals = append(keyvals[:len(keyvals):len(keyvals)], "not shown before", r.hushed)
	}
	*r = repeats{last: time.Now()}
	c.mu.Unlock()
	l := slog.LevelWarn
	if level == kgo.LogLevelError {
		l = slog.LevelError
	}
	c.logger.Log(context.Background(), l, "brokers: "+msg, keyvals...)
}
