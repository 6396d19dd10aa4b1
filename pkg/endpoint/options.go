package endpoint

import (
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Options are how an endpoint is delivered to beyond what every endpoint gets.
// The zero value is none of them.
type Options struct {
	// Ordered has one delivery at a time for each key of events, in the order of
	// the log.
	Ordered bool
	// MaxInFlight is how many requests may be under way to it at once; 0: what the
	// dispatcher gives to all.
	MaxInFlight int
	// RatePerSecond is how many requests a second may be begun; 0: any number.
	RatePerSecond float64
	// Headers go out with every request, as they are written here, in this order.
	Headers []Header
	// Filter is a condition on events' data as package filter writes it; empty: none.
	Filter string
	// ASCIIBody has bodies without any byte that isn't printable ASCII.
	ASCIIBody bool
}

// IsZero reports whether no option is set.
func (o *Options) IsZero() bool {
	return !o.Ordered && o.MaxInFlight == 0 && o.RatePerSecond == 0 && len(o.Headers) == 0 && o.Filter == "" && !o.ASCIIBody
}

// Header is one header of a request; Name goes out exactly as written. Its value may
// be a password, and prints as redacted.
type Header struct{ Name, Value string }

// LogValue hides the value from logs.
func (h Header) LogValue() slog.Value { return slog.StringValue(h.String()) }

// String hides the value from formatting verbs.
func (h Header) String() string { return h.Name + ": [redacted]" }

// GoString hides the value from %#v.
func (h Header) GoString() string { return h.String() }

// The bounds of options.
const (
	MaxMaxInFlight   = 32
	MaxRatePerSecond = 10_000
	MaxHeaders       = 20
	MaxHeaderBytes   = 4096 // names and values of all together
)

// reserved are headers that decide how a request is framed, or where it goes, or
// that only we may say. One that ends in - is a prefix.
var reserved = []string{
	"host", "user-agent", "content-", "transfer-encoding", "connection", "keep-alive", "expect", "upgrade", "te", "trailer", "date", "cookie",
	"proxy-", "forwarded", "x-forwarded-", "via", "webhook-",
	// These open the doors of machines in clouds.
	"metadata", "metadata-", "x-amz-", "x-aws-", "x-goog-", "x-google-",
}

// Reserved reports whether no endpoint may have the header, in whatever case.
// Those that a dialect signs with come on top.
func Reserved(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(reserved, func(r string) bool {
		return name == r || strings.HasSuffix(r, "-") && strings.HasPrefix(name, r)
	})
}

// OptionsPatch changes the options that aren't nil.
type OptionsPatch struct {
	Ordered       *bool    `json:"ordered,omitzero"`
	MaxInFlight   *int     `json:"maxInFlight,omitzero"`
	RatePerSecond *float64 `json:"ratePerSecond,omitzero"`
	Filter        *string  `json:"filter,omitzero"`
	ASCIIBody     *bool    `json:"asciiBody,omitzero"`

	// Headers are what receivers may know callers by, so they are sealed before
	// they enter the log.
	Headers *[]Header `json:"-"`
}

// IsZero reports whether the patch changes nothing.
func (p OptionsPatch) IsZero() bool { return p == OptionsPatch{} }

// Apply sets what the patch says.
func (o *Options) Apply(p *OptionsPatch) {
	set(&o.Ordered, p.Ordered)
	set(&o.MaxInFlight, p.MaxInFlight)
	set(&o.RatePerSecond, p.RatePerSecond)
	set(&o.Filter, p.Filter)
	set(&o.ASCIIBody, p.ASCIIBody)
	set(&o.Headers, p.Headers)
}

func set[T any](dst *T, v *T) {
	if v != nil {
		*dst = *v
	}
}

// Retired is a secret that a newer one has replaced. Until then it signs beside it.
type Retired struct {
	Secret Secret
	Until  time.Time
}

// AppendSigning adds the secrets that sign at a moment, the oldest first; the last
// is the endpoint's Secret.
func (ep *Endpoint) AppendSigning(dst []Secret, now time.Time) []Secret {
	for _, p := range ep.Previous {
		if now.Before(p.Until) {
			dst = append(dst, p.Secret)
		}
	}
	return append(dst, ep.Secret)
}
