// Package endpoint holds the noun that webhooks go to: a registered destination
// of one org in one environment, with the patterns of what it is owed.
package endpoint

import (
	"log/slog"
	"time"

	"sluice/pkg/event"
)

// Status says whether deliveries go out.
type Status string

// An endpoint's states. In all but Active, what it is owed is held for it.
const (
	Active   Status = "active"
	Paused   Status = "paused"   // by its owner
	Disabled Status = "disabled" // by us, after too many failures; or by 410 Gone
)

// Secret signs deliveries. It prints as redacted wherever it is logged.
type Secret []byte

// LogValue hides the secret from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String hides the secret from formatting verbs.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[redacted]" }

// MarshalJSON hides the secret from encoders; what must keep it says so itself.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"[redacted]"`), nil }

// Endpoint is one registered destination. Values handed out by the control
// state are shared and never changed.
type Endpoint struct {
	ID          string // wh_…
	Org         string
	Environment event.Environment
	Dialect     string // name of the dialect whose bodies, headers and schedule it gets
	URL         string
	Patterns    event.Patterns
	Description string
	Secret      Secret
	Previous    []Retired // secrets of before, the oldest first; some may be past their time
	Options     Options
	Status      Status
	Reason      string // why it is disabled, for people; empty otherwise
	CreatedAt   time.Time
	UpdatedAt   time.Time
	DisabledAt  time.Time // zero unless disabled

	// From is the end of its environment's events when it was made: it is owed
	// nothing that was logged before.
	From int64
	// Skip is the offset of its environment's events below which nothing is sent
	// to it any more, though it was owed: its owner enabled it without a replay.
	Skip int64
	// Epoch rises when it is enabled and when its URL changes. Outcomes of attempts
	// made in an older epoch say nothing of it any more.
	Epoch uint64
	// Version rises with every change.
	Version uint64
	// Control is the offset of the command that made its newest version.
	Control int64
	// Missed counts what expired while it was held, since it was last enabled.
	Missed int64
}
