package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"sluice/pkg/control"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

// The environment of TestOneAfterAnother: a seed to begin with, and for how long
// histories are made; without it a few are.
const (
	seedVar = "SLUICE_TEST_SEED"
	longVar = "SLUICE_TEST_MODEL"
)

// Three nodes are as good as one: what clients of theirs saw, at the same time and
// on bad days, could have been seen if everything had been done in turn.
func TestOneAfterAnother(t *testing.T) {
	for name, logs := range map[string]func(*testing.T) func() eventlog.Log{
		"embedded": func(t *testing.T) func() eventlog.Log {
			log := eventlogtest.Mem(t, topics...)
			return func() eventlog.Log { return log }
		},
		"kafka": func(t *testing.T) func() eventlog.Log { // each node has a client of its own
			return func() eventlog.Log { return eventlogtest.Kafka(t, topics...) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			if given := os.Getenv(seedVar); given != "" {
				seed, _ = strconv.ParseUint(given, 10, 64)
			}
			rounds, long := 5, time.Duration(0)
			if given := os.Getenv(longVar); given != "" {
				var err error
				if long, err = time.ParseDuration(given); err != nil {
					t.Fatalf("%s: %v", longVar, err)
				}
			}
			for begun, round := time.Now(), 0; round < rounds || time.Since(begun) < long; round++ {
				t.Run(fmt.Sprint(seed), func(t *testing.T) { oneHistory(t, seed, logs(t)) })
				if t.Failed() {
					return
				}
				seed++
			}
		})
	}
}

// A history, in numbers.
const (
	groups       = 4
	groupClients = 4
	calls        = 40 // of each client
)

func oneHistory(t *testing.T, seed uint64, newLog func() eventlog.Log) {
	w := &world{t: t, begun: time.Now()}
	for i := range 3 {
		n := &modelNode{
			log:  &badLog{Log: newLog(), chance: newChance(seed, uint64(i)), late: &w.late},
			path: filepath.Join(t.TempDir(), fmt.Sprint("control.snapshot", i)),
		}
		if i == 2 {
			n.log.slow = 20 * time.Millisecond
		}
		n.open(t)
		w.nodes = append(w.nodes, n)
	}
	defer func() {
		for _, n := range w.nodes {
			n.control.Load().Close()
		}
		w.late.Wait()
	}()

	var clients sync.WaitGroup
	for g := range groups {
		things := &things{seen: make(map[string]uint64)}
		for i := range groupTokens {
			things.tokens[i] = string(key.New(event.Sandbox))
		}
		for i := range groupClients {
			c := &modelClient{world: w, group: g, things: things, chance: newChance(seed, uint64(100+g*10+i)), number: g*groupClients + i}
			clients.Go(c.run)
		}
	}
	over := make(chan struct{})
	var nemesis sync.WaitGroup
	nemesis.Go(func() {
		chance := newChance(seed, 1000)
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(20+chance.n(60)) * time.Millisecond):
				w.nodes[chance.n(len(w.nodes))].trouble(t, chance)
			}
		}
	})
	clients.Wait()
	close(over)
	nemesis.Wait()
	w.late.Wait()
	w.lookAtEnd()

	unknown := 0
	for _, op := range w.history {
		if op.Output.(answered).unknown {
			unknown++
		}
	}
	// The longer calls take, the more of them are under way at once, and the longer this.
	result, info := porcupine.CheckOperationsVerbose(model, w.history, 3*time.Minute)
	t.Logf("%d calls, %d of them with no answer, %d restarts: %s", len(w.history), unknown, w.restarts(), result)
	if result == porcupine.Ok {
		return
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("control-%d.html", seed))
	if err := porcupine.VisualizePath(model, info, path); err != nil {
		t.Log(err)
	}
	t.Errorf("history is %s, see %s; again with %s=%d", result, path, seedVar, seed)
}

type things struct {
	tokens [groupTokens]string

	mu        sync.Mutex
	keys      []string
	endpoints []string
	seen      map[string]uint64 // version or epoch, as last seen; by what it is of
}

func (th *things) add(list *[]string, id string) {
	th.mu.Lock()
	defer th.mu.Unlock()
	*list = append(*list, id)
}

// one of the newest few, or one that never was.
func (th *things) one(list *[]string, c *chance) string {
	th.mu.Lock()
	defer th.mu.Unlock()
	if len(*list) == 0 {
		return "none"
	}
	return (*list)[len(*list)-1-c.n(min(4, len(*list)))]
}

// modelClient calls, one call after another, each on any node.
type modelClient struct {
	*world
	*chance
	group, number int
	things        *things
	made          int
}

// verbs are what clients ask for, as often as they stand here.
var verbs = []verb{
	createOrg, createOrg, createOrg, updateOrg, updateOrg, deleteOrg,
	createKey, createKey, createKey, createKey, revokeKey, revokeKey,
	createEndpoint, createEndpoint, createEndpoint, patchText, patchText, patchURL, patchStatus, patchStatus,
	enable, enable, disable, disable, addMissed, deleteEndpoint,
	readOrg, readKeys, authenticate, authenticate, authenticate, readEndpoint, readEndpoint, readEndpoint, listEndpoints,
}

func (c *modelClient) run() {
	for range calls {
		in := request{verb: verbs[c.n(len(verbs))], group: c.group, org: c.n(groupOrgs)}
		if in.verb == deleteOrg && c.n(4) > 0 {
			in.verb = readOrg // what is gone is of no more use to anybody
		}
		node := c.node()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		c.ask(ctx, node, in)
		cancel()
		c.pause(2 * time.Millisecond)
	}
}

// node chooses one that runs.
func (c *modelClient) node() *control.Control {
	for {
		if node := c.nodes[c.n(len(c.nodes))].control.Load(); node != nil {
			return node
		}
		c.pause(time.Millisecond)
	}
}

func orgName(group, org int) string { return fmt.Sprintf("org_%d_%d", group, org) }

// ask makes one call and notes it.
func (c *modelClient) ask(ctx context.Context, node *control.Control, in request) {
	cmd := c.prepare(&in)
	call := c.now()
	if cmd == nil {
		token := c.things.tokens[in.token]
		if c.n(2) == 0 {
			// As calls do that look for something: what is there is taken as it is, and
			// what isn't is looked for once more.
			if out, ok := glance(ctx, node, in, token); ok {
				c.note(c.number, in, call, answered{answer: out})
			}
			return
		}
		if err := node.Fresh(ctx); err != nil {
			return
		}
		if out, ok := look(ctx, node, in, token); ok {
			c.note(c.number, in, call, answered{answer: out})
		}
		return
	}
	change, err := node.Do(ctx, cmd)
	if made, ok := cmd.(*control.LimitedEndpoint); ok {
		if made.ID == "" {
			return
		}
		in.id = made.ID
		c.things.add(&c.things.endpoints, in.id)
	}
	code, known := codeOf(err)
	if !known {
		c.note(c.number, in, call, answered{unknown: true})
		return
	}
	out := answered{answer: answer{code: code}}
	if err == nil {
		out.shows = showChange(change)
		c.remember(in, change)
	}
	c.note(c.number, in, call, out)
}

// prepare completes the call and gives its command; nil: it is a read.
func (c *modelClient) prepare(in *request) control.Command {
	org := orgName(in.group, in.org)
	expected := func(of string) uint64 { // what was seen, or any
		c.things.mu.Lock()
		defer c.things.mu.Unlock()
		if c.n(2) == 0 {
			return 0
		}
		return c.things.seen[of]
	}
	switch in.verb {
	case createOrg:
		in.value = string(control.Plans[c.n(4)])
		return &control.CreateOrg{ID: org, Plan: control.Plan(in.value)}
	case updateOrg:
		plan := control.Plans[c.n(4)]
		in.value, in.expected = string(plan), expected(org)
		return &control.UpdateOrg{Org: org, Version: in.expected, Plan: &plan}
	case deleteOrg:
		return &control.DeleteOrg{Org: org}
	case createKey:
		c.made++
		in.id, in.token = fmt.Sprintf("key_%d_%d", c.number, c.made), c.n(groupTokens)
		c.things.add(&c.things.keys, in.id)
		cmd := &control.LimitedKey{Most: mostKeys}
		cmd.ID, cmd.Org, cmd.Environment, cmd.Scopes, cmd.Hash = in.id, org, event.Sandbox, key.Scopes, key.Hash(c.things.tokens[in.token])
		return cmd
	case revokeKey:
		in.id = c.things.one(&c.things.keys, c.chance)
		return &control.RevokeKey{Org: org, ID: in.id}
	case createEndpoint:
		cmd := &control.LimitedEndpoint{CreateEndpoint: *newEndpoint(org), Most: mostEndpoint}
		in.value = cmd.URL
		return cmd
	case authenticate:
		in.token = c.n(groupTokens)
		return nil
	case readOrg, readKeys, listEndpoints:
		return nil
	}
	in.id = c.things.one(&c.things.endpoints, c.chance)
	switch in.verb {
	case patchText:
		in.value, in.expected = fmt.Sprint("text", c.n(1000)), expected(in.id)
		return &control.UpdateEndpoint{Endpoint: in.id, Version: in.expected, Description: &in.value}
	case patchURL:
		in.value, in.expected = fmt.Sprintf("https://example.com/%d", c.n(3)), expected(in.id)
		return &control.UpdateEndpoint{Endpoint: in.id, Version: in.expected, URL: &in.value}
	case patchStatus:
		status := []endpoint.Status{endpoint.Active, endpoint.Paused}[c.n(2)]
		in.value, in.expected = string(status), expected(in.id)
		return &control.UpdateEndpoint{Endpoint: in.id, Version: in.expected, Status: &status}
	case enable:
		return &control.EnableEndpoint{Endpoint: in.id}
	case disable:
		in.expected = expected("epoch of " + in.id)
		return &control.DisableEndpoint{Endpoint: in.id, Epoch: in.expected, Reason: "5 failures"}
	case addMissed:
		return &control.AddMissed{Endpoint: in.id, Count: 1}
	case deleteEndpoint:
		return &control.DeleteEndpoint{Endpoint: in.id}
	}
	return nil // readEndpoint
}

func (c *modelClient) remember(in request, change control.Change) {
	c.things.mu.Lock()
	defer c.things.mu.Unlock()
	if change.Org != nil {
		c.things.seen[change.Org.ID] = change.Org.Version
	}
	if change.Endpoint != nil {
		c.things.seen[in.id], c.things.seen["epoch of "+in.id] = change.Endpoint.Version, change.Endpoint.Epoch
	}
}

// codeOf names a refusal; false: nobody knows what came of the command.
func codeOf(err error) (string, bool) {
	if err == nil {
		return "", true
	}
	for code, is := range map[string]error{
		"not found": control.ErrNotFound, "exists": control.ErrExists, "conflict": control.ErrConflict,
		"disabled": control.ErrDisabled, "limit": control.ErrLimit,
	} {
		if errors.Is(err, is) {
			return code, true
		}
	}
	return "", false
}

func showChange(change control.Change) string {
	switch {
	case change.Endpoint != nil:
		return showEndpoint(change.Endpoint)
	case change.Org != nil:
		return showOrg(change.Org)
	}
	return ""
}

func showOrg(o *control.Org) string {
	return (&modelOrg{version: o.Version, plan: string(o.Plan)}).show()
}

func showEndpoint(e *endpoint.Endpoint) string {
	return modelEndpoint{version: e.Version, epoch: e.Epoch, status: e.Status, text: e.Description, url: e.URL, missed: e.Missed}.show()
}

// glance reads as a call does that names something. What it finds at once may be
// a moment old, and isn't noted; that there is nothing must be true now.
func glance(ctx context.Context, node *control.Control, in request, token string) (answer, bool) {
	absent := func() bool {
		switch in.verb {
		case readEndpoint:
			return node.Endpoint(in.id) == nil
		case readOrg:
			return node.Org(orgName(in.group, in.org)) == nil
		}
		return true
	}
	switch in.verb {
	case authenticate: // looks twice by itself
		_, err := node.Authenticate(ctx, token)
		return answer{code: "unauthorized"}, errors.Is(err, control.ErrUnauthorized)
	case readEndpoint, readOrg:
		if !absent() || node.Recheck(ctx) != nil {
			return answer{}, false
		}
		return look(ctx, node, in, token)
	}
	return answer{}, false
}

// look reads what the node has.
func look(ctx context.Context, node *control.Control, in request, token string) (answer, bool) {
	org := orgName(in.group, in.org)
	switch in.verb {
	case readOrg:
		if o := node.Org(org); o != nil {
			return answer{shows: showOrg(o)}, true
		}
	case readEndpoint:
		if e := node.Endpoint(in.id); e != nil {
			return answer{shows: showEndpoint(e)}, true
		}
	case readKeys:
		var ids []string
		for _, k := range node.Keys(org) {
			ids = append(ids, k.ID)
		}
		return answer{shows: strings.Join(ids, " ")}, true
	case listEndpoints:
		var ids []string
		page, _ := node.Endpoints(org, event.Sandbox, 0, 100)
		for _, e := range page {
			ids = append(ids, e.ID)
		}
		return answer{shows: strings.Join(ids, " ")}, true
	case authenticate:
		p, err := node.Authenticate(ctx, token)
		switch {
		case err == nil:
			return answer{shows: p.KeyID}, true
		case errors.Is(err, control.ErrUnauthorized):
			return answer{code: "unauthorized"}, true
		}
		return answer{}, false
	}
	return answer{code: "not found"}, true
}
