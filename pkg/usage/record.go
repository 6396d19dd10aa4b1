package usage

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A record of the topic is JSON, a delta or a part of a checkpoint:
//
//	{"v":1,"delta":{"writer":"BZ5L…","number":7,"counts":{"sandbox":{"org_a":[12,3,3,40]}}}}
//	{"v":1,"checkpoint":{"id":"QK2M…","part":0,"parts":1,"deltas":8,"writers":{"BZ5L…":[7,20779]},
//	       "accounts":[{"org":"org_a","env":"sandbox","months":[[24322,12,3,3,40]],"days":[[20779,12,3,3,40]]}]}}
//
// Counts are in the order of their kinds, behind the month (since year 0) or the
// day (since 1970) that they are of; those that are missing are 0. A delta may have
// "minutes" too, {"org_a":[1764000000123,40]}: so many API requests in the window of a
// minute that began then, in milliseconds. Members that
// aren't known, records that are neither, and numbers behind the last kind are
// passed over: what must not be gets a higher version.
type record struct {
	V          int    `json:"v"`
	Delta      *delta `json:"delta,omitzero"`
	Checkpoint *part  `json:"checkpoint,omitzero"`
}

const version = 1

// maxRecord is about how large a record gets, in bytes.
const maxRecord = 128 << 10

// delta is what a writer counted since the one before.
type delta struct {
	Writer string                        `json:"writer"`
	Number uint64                        `json:"number"` // 1, 2, … by writer
	Counts map[string]map[string][]int64 `json:"counts"` // by environment, by org

	Minutes map[string]minute `json:"minutes,omitzero"` // by org

	size int // about, encoded
}

func newDelta() *delta { return &delta{Counts: make(map[string]map[string][]int64)} }

// entrySize is what an account takes in a delta at most, in bytes, about.
func entrySize(at account) int { return len(at.org) + 20*int(kinds) }

func (d *delta) add(at account, n *Counts) {
	env := at.env.String()
	if d.Counts[env] == nil {
		d.Counts[env] = make(map[string][]int64)
	}
	d.Counts[env][at.org] = trimmed(n)
	d.size += entrySize(at)
}

// minuteSize is what an org's window takes in a delta at most, in bytes, about.
func minuteSize(org string) int { return len(org) + 40 }

func (d *delta) addMinute(org string, n minute) {
	if d.Minutes == nil {
		d.Minutes = make(map[string]minute)
	}
	d.Minutes[org] = n
	d.size += minuteSize(org)
}

// trimmed leaves zeros at the end out.
func trimmed(n *Counts) []int64 {
	end := len(n)
	for end > 0 && n[end-1] == 0 {
		end--
	}
	return slices.Clone(n[:end])
}

// part is one record of a checkpoint. It counts when all parts are there.
type part struct {
	ID       string              `json:"id"`
	Part     int                 `json:"part"`
	Parts    int                 `json:"parts"`
	Deltas   int64               `json:"deltas"`           // folded, ever
	Writers  map[string][2]int64 `json:"writers,omitzero"` // number and day of the newest delta folded
	Accounts []accountJSON       `json:"accounts,omitzero"`
}

type accountJSON struct {
	Org    string    `json:"org"`
	Env    string    `json:"env"`
	Months [][]int64 `json:"months"`
	Days   [][]int64 `json:"days"`
}

// errNewer: what was counted by a newer release can't be added here.
var errNewer = errors.New("record is of a newer release than this one: upgrade this node")

var errUnreadable = errors.New("record can't be read")

func encode(r *record) []byte {
	r.V = version
	b, err := json.Marshal(r, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("usage: " + err.Error()) // numbers and texts: nothing that can't be written
	}
	return b
}

func decode(value []byte) (*record, error) {
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(value, &head); err != nil || head.V < 1 {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if head.V > version {
		return nil, fmt.Errorf("version %d: %w", head.V, errNewer)
	}
	r := new(record)
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return r, nil
}

// check makes sure that a record can be folded whole or not at all.
func (r *record) check() error {
	if d := r.Delta; d != nil {
		if d.Writer == "" || d.Number == 0 {
			return errors.New("delta without writer or number")
		}
		for _, orgs := range d.Counts {
			for org, n := range orgs {
				if negative(n) {
					return fmt.Errorf("negative count of %s", org)
				}
			}
		}
		for org, n := range d.Minutes {
			if negative(n[:]) {
				return fmt.Errorf("negative minute of %s", org)
			}
		}
	}
	if p := r.Checkpoint; p != nil {
		if p.ID == "" || p.Parts < 1 || p.Part < 0 || p.Part >= p.Parts {
			return errors.New("checkpoint without id or parts")
		}
		for i := range p.Accounts {
			a := &p.Accounts[i]
			for _, s := range slices.Concat(a.Months, a.Days) {
				if len(s) == 0 || negative(s) {
					return fmt.Errorf("period or count of %s", a.Org)
				}
			}
		}
	}
	return nil
}

func negative(n []int64) bool { return slices.ContainsFunc(n, func(v int64) bool { return v < 0 }) }

// counts reads numbers as they are in a record.
func counts(n []int64) (c Counts) {
	copy(c[:], n)
	return c
}
