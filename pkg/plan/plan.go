// Package plan says what an org may use, by the plan that it is on. It is a noun like
// those of pkg/key: it imports nothing and decides nothing.
package plan

// Plan is what an org may use.
type Plan string

// The plans.
const (
	Free       Plan = "free"
	Starter    Plan = "starter"
	Pro        Plan = "pro"
	Enterprise Plan = "enterprise"
)

// All lists all plans, the smallest first.
var All = []Plan{Free, Starter, Pro, Enterprise}

// Limits are what a plan allows.
type Limits struct {
	Requests      int  // of the API, in a minute
	Subscriptions int  // endpoints of a dialect that counts them, in both environments; 0: any number
	Filters       int  // of one subscription
	Deliveries    int  // of such endpoints in a month, in both environments; 0: any number
	Holds         bool // deliveries past those of a month wait for the next; else they go out as overage
	Mainnet       bool // subscriptions to networks that carry value
}

// Limits gives what the plan allows. A plan that isn't known is the largest.
func (p Plan) Limits() Limits {
	switch p {
	case Free:
		return Limits{Requests: 10, Subscriptions: 10, Filters: 3, Deliveries: 1000, Holds: true}
	case Starter:
		return Limits{Requests: 100, Subscriptions: 100, Filters: 5, Deliveries: 10_000, Mainnet: true}
	case Pro:
		return Limits{Requests: 1000, Subscriptions: 1000, Filters: 10, Deliveries: 100_000, Mainnet: true}
	}
	return Limits{Requests: 10000, Filters: 20, Mainnet: true}
}

// HoldsFrom gives from how many deliveries of a month on further ones wait; 0: never.
func (l Limits) HoldsFrom() int {
	if l.Holds {
		return l.Deliveries
	}
	return 0
}
