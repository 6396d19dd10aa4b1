package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"sluice/pkg/event"
	"sluice/pkg/eventlog"
)

// Replay is a run over what an endpoint's environment has of the past: its owner
// asked for events to be sent to it once more. Values that are handed out are
// never changed.
type Replay struct {
	ID          string // rpl_…
	Endpoint    string
	Org         string            // the endpoint's
	Environment event.Environment // the endpoint's

	// Since and Until are what was asked for: events that were logged from Since on
	// and before Until; zero: before the replay was made. From and To are the same as
	// places among events.
	Since, Until time.Time
	From, To     int64
	Patterns     event.Patterns // nil: the endpoint's, as they are when an event's turn comes
	FailedOnly   bool           // only events whose deliveries to the endpoint are dead letters

	CreatedAt time.Time
	EndedAt   time.Time // zero: it runs, or waits
	Cancelled bool      // that is how it ended

	Progress
	created int64 // offset of the command that made it
}

// Progress is how far a replay is.
type Progress struct {
	Done  int64 `json:"done"`  // records looked at and done with
	Total int64 `json:"total"` // records to look at: events, or dead letters

	Delivered int64 `json:"delivered"` // by the first attempt
	Failed    int64 `json:"failed"`    // the first attempt failed, and their retries go on as any delivery's
	Expired   int64 `json:"expired"`   // events passed over, wanted or not, because they are too old to be shown
}

// Ended reports whether nothing new is sent for it.
func (r *Replay) Ended() bool { return !r.EndedAt.IsZero() }

// The bounds of replays. One that has ended is remembered for ReplayKept, if its
// endpoint hasn't had many more since.
const (
	ReplayKept = 7 * 24 * time.Hour

	replaysOfEndpoint = 4    // that haven't ended
	replaysOfOrg      = 32   // that haven't ended
	replaysOfAll      = 1024 // that haven't ended
	replaysKept       = 20   // of one endpoint, ended or not
)

// replayLimits are the bounds that a command was made with.
type replayLimits struct {
	Endpoint int `json:"endpoint"`
	Org      int `json:"org"`
	All      int `json:"all"`
	Kept     int `json:"kept"`
}

// StartReplay begins a replay, or has it wait for those of its endpoint that were
// begun before. Do makes ID and looks up the places; what is too old to be shown,
// or yet to come, is left out. ErrLimit: there are too many that haven't ended.
type StartReplay struct {
	ID         string       `json:"id"`
	Endpoint   string       `json:"endpoint"`
	Since      time.Time    `json:"since"`
	Until      time.Time    `json:"until,omitzero"`
	Patterns   []string     `json:"patterns,omitzero"`
	FailedOnly bool         `json:"failedOnly,omitzero"`
	From       int64        `json:"from"`
	To         int64        `json:"to"`
	Expired    int64        `json:"expired,omitzero"` // events from Since on that the log has and that are too old
	Limits     replayLimits `json:"limits"`
}

func (*StartReplay) op() string { return "replay.start" }

func (cmd *StartReplay) prepare(ctx context.Context, c *Control) error {
	cmd.ID = newID("rpl_")
	cmd.Limits = replayLimits{Endpoint: replaysOfEndpoint, Org: replaysOfOrg, All: replaysOfAll, Kept: replaysKept}
	ep := c.Endpoint(cmd.Endpoint)
	if ep == nil {
		return fmt.Errorf("replay to endpoint %s: %w", cmd.Endpoint, ErrNotFound)
	}
	if err := cmd.places(ctx, c.log, eventlog.Partition{Topic: ep.Environment.Topic()}); err != nil {
		return fmt.Errorf("look up places of events: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// places turns times into places.
func (cmd *StartReplay) places(ctx context.Context, log eventlog.Reader, p eventlog.Partition) error {
	var err error
	if _, cmd.To, err = log.Bounds(ctx, p); err != nil {
		return err
	}
	if !cmd.Until.IsZero() {
		until, err := log.OffsetAt(ctx, p, cmd.Until)
		if err != nil {
			return err
		}
		cmd.To = min(cmd.To, until)
	}
	if cmd.From, err = log.OffsetAt(ctx, p, cmd.Since); err != nil {
		return err
	}
	if shown := time.Now().Add(-event.Shown); cmd.Since.Before(shown) {
		oldest, err := log.OffsetAt(ctx, p, shown)
		if err != nil {
			return err
		}
		oldest = max(cmd.From, min(oldest, cmd.To))
		cmd.Expired, cmd.From = oldest-cmd.From, oldest
	}
	cmd.To = max(cmd.From, cmd.To)
	return nil
}

func (cmd *StartReplay) apply(s *state, at stamp) ([]Change, error) {
	var patterns event.Patterns
	if len(cmd.Patterns) > 0 {
		var err error
		if patterns, err = parsePatterns(cmd.Patterns); err != nil {
			return nil, fmt.Errorf("%w: %w", errUnreadable, err)
		}
	}
	if cmd.ID == "" || cmd.To < cmd.From || cmd.Limits.Kept < 1 {
		return nil, fmt.Errorf("%w: replay without id, places or limits", errUnreadable)
	}
	e := s.endpoints[cmd.Endpoint]
	if e == nil {
		return nil, fmt.Errorf("replay to endpoint %s: %w", cmd.Endpoint, ErrNotFound)
	}
	if err := s.mayReplay(cmd, e.home.org); err != nil {
		return nil, err
	}
	s.forgetReplays(cmd.Endpoint, at.at, cmd.Limits.Kept)
	r := &Replay{
		ID: cmd.ID, Endpoint: cmd.Endpoint, Org: e.home.org, Environment: e.home.env,
		Since: cmd.Since.UTC(), Until: cmd.Until.UTC(), From: cmd.From, To: cmd.To, Patterns: patterns, FailedOnly: cmd.FailedOnly,
		CreatedAt: at.at, Progress: Progress{Expired: cmd.Expired}, created: at.offset,
	}
	if !r.FailedOnly {
		r.Total = r.To - r.From
	}
	s.addReplay(r)
	return []Change{{Offset: at.offset, Replay: r}}, nil
}

// mayReplay holds the command against its limits.
func (s *state) mayReplay(cmd *StartReplay, org string) error {
	if s.replay(cmd.Endpoint, cmd.ID) != nil {
		return fmt.Errorf("start replay %s: %w", cmd.ID, ErrExists)
	}
	var ofEndpoint, ofOrg int
	for _, r := range s.replaying {
		if r.Endpoint == cmd.Endpoint {
			ofEndpoint++
		}
		if r.Org == org {
			ofOrg++
		}
	}
	switch l := cmd.Limits; {
	case ofEndpoint >= l.Endpoint:
		return fmt.Errorf("start replay: %d to endpoint %s: %w", ofEndpoint, cmd.Endpoint, ErrLimit)
	case ofOrg >= l.Org:
		return fmt.Errorf("start replay: %d of org %s: %w", ofOrg, org, ErrLimit)
	case len(s.replaying) >= l.All:
		return fmt.Errorf("start replay: %d of all orgs: %w", len(s.replaying), ErrLimit)
	}
	return nil
}

// ReplayProgress says how far a replay is, in the words of its lane; Ended: all of
// it was sent. ErrConflict: it has ended. Of one that was cancelled the counts may
// still change.
type ReplayProgress struct {
	Endpoint string   `json:"endpoint"`
	Replay   string   `json:"replay"`
	Progress Progress `json:"progress"`
	Ended    bool     `json:"ended,omitzero"`
}

func (*ReplayProgress) op() string { return "replay.progress" }

func (cmd *ReplayProgress) apply(s *state, at stamp) ([]Change, error) {
	before := s.replay(cmd.Endpoint, cmd.Replay)
	switch {
	case before == nil:
		return nil, fmt.Errorf("note progress of replay %s: %w", cmd.Replay, ErrNotFound)
	case before.Ended() && !before.Cancelled:
		return nil, fmt.Errorf("note progress of replay %s: %w", cmd.Replay, ErrConflict)
	}
	r := *before
	r.Progress = cmd.Progress
	if cmd.Ended && !r.Ended() {
		r.EndedAt = at.at
	}
	s.replaceReplay(before, &r)
	if r.Ended() == before.Ended() {
		return nil, nil // nobody acts upon it
	}
	return []Change{{Offset: at.offset, Replay: &r}}, nil
}

// CancelReplay has nothing more sent for a replay, retries of what it sent
// included. ErrConflict: it has ended by itself.
type CancelReplay struct {
	Endpoint string `json:"endpoint"`
	Replay   string `json:"replay"`
}

func (*CancelReplay) op() string { return "replay.cancel" }

func (cmd *CancelReplay) apply(s *state, at stamp) ([]Change, error) {
	before := s.replay(cmd.Endpoint, cmd.Replay)
	switch {
	case before == nil:
		return nil, fmt.Errorf("cancel replay %s: %w", cmd.Replay, ErrNotFound)
	case before.Cancelled:
		return []Change{{Offset: at.offset, Replay: before}}, nil
	case before.Ended():
		return nil, fmt.Errorf("cancel replay %s: %w", cmd.Replay, ErrConflict)
	}
	r := *before
	r.EndedAt, r.Cancelled = at.at, true
	s.replaceReplay(before, &r)
	return []Change{{Offset: at.offset, Replay: &r}}, nil
}

func (s *state) replay(endpoint, id string) *Replay {
	for _, r := range s.replays[endpoint] {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func (s *state) addReplay(r *Replay) {
	s.replays[r.Endpoint] = append(s.replays[r.Endpoint], r)
	if !r.Ended() {
		s.replaying[r.ID] = r
	}
	s.toggle(appendReplay(s.buf, r))
}

func (s *state) replaceReplay(before, r *Replay) {
	list := s.replays[r.Endpoint]
	list[slices.Index(list, before)] = r
	if delete(s.replaying, r.ID); !r.Ended() {
		s.replaying[r.ID] = r
	}
	s.toggle(appendReplay(s.buf, before))
	s.toggle(appendReplay(s.buf, r))
}

func (s *state) removeReplay(r *Replay) {
	list := slices.DeleteFunc(s.replays[r.Endpoint], func(o *Replay) bool { return o == r })
	if s.replays[r.Endpoint] = list; len(list) == 0 {
		delete(s.replays, r.Endpoint)
	}
	delete(s.replaying, r.ID)
	s.toggle(appendReplay(s.buf, r))
}

// removeReplays takes away those of an endpoint that goes.
func (s *state) removeReplays(endpoint string) {
	for _, r := range slices.Clone(s.replays[endpoint]) {
		s.removeReplay(r)
	}
}

// forgetReplays drops replays of any endpoint that ended long ago, and of this one
// so many that there is room for another.
func (s *state) forgetReplays(endpoint string, now time.Time, kept int) {
	for id, list := range s.replays {
		over := -1 // of this endpoint: more than may be kept beside a new one
		if id == endpoint {
			over = len(list) + 1 - kept
		}
		for _, r := range slices.Clone(list) {
			if r.Ended() && (over > 0 || now.Sub(r.EndedAt) >= ReplayKept) {
				s.removeReplay(r)
				over--
			}
		}
	}
}

// Replays lists an endpoint's replays, the oldest first: those that haven't ended,
// and those that ended no longer than ReplayKept ago.
func (c *Control) Replays(endpoint string) []*Replay {
	c.mu.RLock()
	defer c.mu.RUnlock()
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(c.state.replays[endpoint]), func(r *Replay) bool {
		return r.Ended() && now.Sub(r.EndedAt) >= ReplayKept
	})
}

// Replay gives a replay of the endpoint, or nil.
func (c *Control) Replay(endpoint, id string) *Replay {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.state.replay(endpoint, id)
}

// Replaying lists the replays of all endpoints that haven't ended, in no order.
func (c *Control) Replaying() []*Replay {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]*Replay, 0, len(c.state.replaying))
	for _, r := range c.state.replaying {
		out = append(out, r)
	}
	return out
}

func appendReplay(b []byte, r *Replay) []byte {
	b = append(b, kindReplay)
	for _, n := range []int64{r.created, r.From, r.To, r.Done, r.Total, r.Delivered, r.Failed, r.Expired} {
		b = binary.AppendVarint(b, n)
	}
	b = append(b, bit(r.FailedOnly), bit(r.Cancelled))
	for _, t := range []time.Time{r.Since, r.Until, r.CreatedAt, r.EndedAt} {
		b = appendTime(b, t)
	}
	b = appendText(b, r.Endpoint)
	b = appendText(b, r.ID)
	return appendTexts(b, r.Patterns.Strings())
}

// loadReplay adds a replay of an endpoint that was loaded before.
func (s *state) loadReplay(in *reader) error {
	r := &Replay{
		created: in.varint(), From: in.varint(), To: in.varint(),
		Progress:   Progress{Done: in.varint(), Total: in.varint(), Delivered: in.varint(), Failed: in.varint(), Expired: in.varint()},
		FailedOnly: in.byte() == 1, Cancelled: in.byte() == 1,
		Since: in.time(), Until: in.time(), CreatedAt: in.time(), EndedAt: in.time(),
		Endpoint: in.text(), ID: in.text(),
	}
	texts := readTexts[string](in)
	e := s.endpoints[r.Endpoint]
	if !in.done() || e == nil {
		return errDamaged
	}
	r.Org, r.Environment = e.home.org, e.home.env
	if len(texts) > 0 {
		var err error
		if r.Patterns, err = parsePatterns(texts); err != nil {
			return errDamaged
		}
	}
	s.addReplay(r)
	return nil
}
