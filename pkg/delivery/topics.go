package delivery

import (
	"slices"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Lanes is the number of partitions that all topics of deliveries have. It is
// fixed when a log is first used: an endpoint's lane follows from it.
const Lanes = 16

// The topics of deliveries, beside one for each tier.
const (
	HeldTopic     = "held"     // owed, but can't go now
	DeadTopic     = "dead"     // out of attempts, or not to be read
	AttemptsTopic = "attempts" // every attempt's outcome: the lanes' journal
	LanesTopic    = "lanes"    // the lanes' checkpoints
)

// Retention of delivery topics: a day longer than events are shown, so that
// what is held outlives what it points to.
const Retention = 8 * 24 * time.Hour

// Tier names the topic of the deliveries that wait for the delay: tier.0s,
// tier.5s, tier.5m, tier.1h.
func Tier(delay time.Duration) string {
	switch {
	case delay != 0 && delay%time.Hour == 0:
		return "tier." + strconv.Itoa(int(delay/time.Hour)) + "h"
	case delay != 0 && delay%time.Minute == 0:
		return "tier." + strconv.Itoa(int(delay/time.Minute)) + "m"
	default:
		return "tier." + strconv.Itoa(int(delay/time.Second)) + "s"
	}
}

// Lane gives the partition that everything about the endpoint lies in.
func Lane(endpoint string) int32 { return int32(xxhash.Sum64String(endpoint) % Lanes) }

// Tiers gives the delays that the schedules use, each once, shortest first. Each
// has a topic, named by Tier; the one without a delay is there whatever they
// say, for it is where every delivery begins.
func Tiers(schedules ...[]time.Duration) []time.Duration {
	all := []time.Duration{0}
	for _, s := range schedules {
		all = append(all, s...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
