package drive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/loadtest/fleet"
)

// TestBuiltIn reads every scenario that comes with the program.
func TestBuiltIn(t *testing.T) {
	names := BuiltIn()
	if len(names) < 4 {
		t.Errorf("only %v", names)
	}
	for _, name := range names {
		text, err := Text(name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(text)
		if err != nil || s.About == "" {
			t.Errorf("%s: %v, about %q", name, err, s.About)
		}
	}
	if _, err := Text("nosuch"); err == nil || !strings.Contains(err.Error(), "give one of chaos, crowd") {
		t.Errorf("a name that is none: %v", err)
	}
}

// TestScenario holds what a scenario can be to what is said of it otherwise.
func TestScenario(t *testing.T) {
	const good = "duration: 10s\npublishers:\n  - {name: a, rate: 5}\n"
	const own = good + "processes: [api, dispatcher]\n"
	s, err := Parse([]byte(good + "streams:\n  - {name: b, kind: websocket, connections: 4, stalled: 25%, resuming: 0.5}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p, c := s.Publishers[0], s.Streams[0]; p.Batch != 1 || p.Size != 200 || p.Keys != 16 || p.InFlight != 128 || c.Stalled != 0.25 || c.Resuming != 0.5 || c.OnSlow != "drop" || s.Settle != Time(30*time.Second) {
		t.Errorf("%+v", s)
	}
	for _, c := range []struct{ text, says string }{
		{"", "needs a duration"},
		{"duration: 10s\n", "needs a duration and publishers"},
		{good + "durations: 10s\n", `line 4: unknown field "durations"`},
		{good + "settle: soon\n", `"soon" is no time`},
		{"duration: 10s\npublishers:\n  - {name: A, rate: 5}\n", `name "A"`},
		{"duration: 10s\npublishers:\n  - {name: a}\n", "rate must be more than 0"},
		{"duration: 10s\npublishers:\n  - {name: a, rate: 5, batch: 2000}\n", "batch must be"},
		{"duration: 10s\npublishers:\n  - {name: a, rate: 5, batch: 1000, size: 5000}\n", "size must be"},
		{"duration: 24h\npublishers:\n  - {name: a, rate: 5000}\n", "too many to keep account of"},
		{good + "streams:\n  - {name: a, kind: websocket, connections: 1}\n", `name "a"`},
		{good + "streams:\n  - {name: b, kind: carrier, connections: 1}\n", "kind must be"},
		{good + "streams:\n  - {name: b, kind: sse, connections: 0}\n", "connections must be"},
		{good + "streams:\n  - {name: b, kind: sse, connections: 1, onSlow: resume}\n", "onSlow is for WebSockets"},
		{good + "streams:\n  - {name: b, kind: sse, connections: 1, stalled: 60%, resuming: 60%}\n", "100% together"},
		{good + "streams:\n  - {name: b, kind: sse, connections: 1, stalled: 200%}\n", "is no share"},
		{good + "streams:\n  - {name: b, kind: sse, connections: 1, publishers: [c]}\n", `no publisher "c"`},
		{good + "receivers:\n  - {name: b, endpoints: 1, fails: 70%, hangs: 70%}\n", "100% together"},
		{good + "orgs: 2\n", "say its processes"},
		{good + "faults:\n  - {do: kill, role: api, every: 10s}\n", "say its processes"},
		{good + "processes: [api, clock]\n", `process "clock"`},
		{good + "processes: [all]\norgs: 5000\n", "orgs must be 1 to 1000"},
		{own + "faults:\n  - {do: melt, role: api, every: 10s}\n", "fault 1: do must be kill"},
		{own + "faults:\n  - {do: kill, role: gateway, every: 10s}\n", `no process has the role "gateway"`},
		{own + "faults:\n  - {do: kill, role: api}\n", "say how often, with every, or when, with at"},
		{own + "faults:\n  - {do: kill, role: api, every: 5s, at: [1s]}\n", "say how often, with every, or when, with at"},
		{own + "faults:\n  - {do: kill, role: api, every: 5ms}\n", "every must be 1s or more"},
		{own + "faults:\n  - {do: freeze, role: api, at: [1s], lasts: 1h}\n", "lasts must be 10m0s at most"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, not %q", c.text, err, c.says)
		}
	}
}

// TestStrikes: what is broken when follows from the seed, and is over in time.
func TestStrikes(t *testing.T) {
	s, err := Parse([]byte(`
duration: 10m
publishers: [{name: a, rate: 5}]
processes: [api, "gateway,dispatcher"]
faults:
  - {do: kill, role: dispatcher, every: 20s, lasts: 2s}
  - {do: restart, role: api, at: [1m, 9m, 9m59s500ms, 1h]}
  - {do: freeze, role: gateway, at: [30s], lasts: 5s}
`))
	if err != nil {
		t.Fatal(err)
	}
	all := s.strikes(7)
	if !slices.Equal(all, s.strikes(7)) || slices.Equal(all, s.strikes(8)) {
		t.Error("it doesn't follow from the seed")
	}
	count := make(map[fleet.How][]time.Duration)
	for i, f := range all {
		count[f.how] = append(count[f.how], f.at)
		if i > 0 && f.at < all[i-1].at || f.at+f.lasts >= 10*time.Minute {
			t.Errorf("strike %d is out of turn, or too late: %+v", i, f)
		}
	}
	if n := len(count[fleet.Kill]); n < 20 || n > 59 {
		t.Errorf("there are %d kills in 10 minutes, one every 20s", n)
	}
	which := func(how fleet.How) (all []uint64) {
		for _, f := range s.strikes(7) {
			if f.how == how {
				all = append(all, f.which)
			}
		}
		return all
	}
	if got := which(fleet.Restart); !slices.Equal(got, []uint64{0, 1}) {
		t.Errorf("at their times %v are restarted, not one after the other", got)
	}
	if !slices.Equal(count[fleet.Restart], []time.Duration{time.Minute, 9 * time.Minute}) || !slices.Equal(count[fleet.Freeze], []time.Duration{30 * time.Second}) {
		t.Errorf("at their times: %v", count)
	}
}

// TestNotBegun ends a run in which nothing could begin, with who listens not yet at it.
func TestNotBegun(t *testing.T) {
	s, err := Parse([]byte("duration: 1s\npublishers:\n  - {name: a, rate: 1}\nreceivers:\n  - {name: b, endpoints: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	nobody := errors.New("nobody there")
	ended := make(chan error, 1)
	go func() {
		for range 20 {
			_, err := Run(t.Context(), Config{Scenario: s, Keys: []string{"sk_test_1"}, ReceiveOn: "127.0.0.1:0",
				Call: func(context.Context, int, string, string, any, any) error { return nobody }})
			if !errors.Is(err, nobody) {
				ended <- fmt.Errorf("the run ended with %v", err)
				return
			}
		}
		ended <- nil
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on")
	}
}

// aRun has two publishers, three orgs, and ten events of each publisher.
func aRun() *marks {
	s := &Scenario{Duration: Time(10 * time.Second), Publishers: []Publisher{
		{Name: "a", Rate: 1, Batch: 1, Keys: 1, Size: 100}, {Name: "bb", Rate: 1, Batch: 1, Keys: 1, Size: 120, Broadcast: true}}}
	return newMarks("rtest", s, 3, s.book(3, func(int) string { return "" }))
}

const testCursor = "ATRvSWZjUkF4AQAAAAAAAAAB"

// streamed is an event of the run as a stream has it.
func (m *marks) streamed(number int) string {
	publisher, org, _ := m.of(number)
	name := []string{"a", "bb"}[publisher]
	return fmt.Sprintf(`{"type":"load.rtest.%s","id":"load_rtest_%d","timestamp":"2026-11-22T03:20:11.690Z","load":"rtest","n":%d%s,"cursor":"%s"}`,
		name, number, number, m.tails[publisher][org], testCursor)
}

// TestMarks knows every event of the run again, and none in which anything else than
// its timestamp or cursor is another.
func TestMarks(t *testing.T) {
	m := aRun()
	for number := range 20 {
		text := m.streamed(number)
		if n, cursor, err := m.event([]byte(text)); n != number || cursor != testCursor || err != nil {
			t.Fatalf("%s: %d %q %v", text, n, cursor, err)
		}
		body := strings.Replace(text, `,"cursor":"`+testCursor+`"`, "", 1)
		if n, cursor, err := m.event([]byte(body)); n != number || cursor != "" || err != nil {
			t.Fatalf("%s: %d %q %v", body, n, cursor, err)
		}
		_, data, _ := strings.Cut(body, `Z",`)
		typ, _, _ := strings.Cut(strings.TrimPrefix(body, `{"type":"`), `"`)
		if n, err := m.data([]byte(typ), []byte("{"+data)); n != number || err != nil {
			t.Fatalf("%s: %d %v", data, n, err)
		}
		sent := m.appendEvent(nil, &Publisher{Name: []string{"a", "bb"}[number/10], Broadcast: number >= 10}, number, 3)
		if !bytes.Contains(sent, []byte(`"data":{`+data)) || bytes.Contains(sent, []byte(`"audience":"*"`)) != (number >= 10) {
			t.Fatalf("%s is sent as %s", body, sent)
		}
		stamp := strings.Index(text, "2026-")
		for i := range text {
			if i >= stamp && i < stamp+26 || i >= len(text)-26 && i < len(text)-2 {
				continue
			}
			changed := []byte(text)
			changed[i] ^= 1
			if _, _, err := m.event(changed); err == nil {
				t.Fatalf("%s passes", changed)
			}
		}
	}
	if _, _, err := m.event([]byte(`{"type":"subscribe.ok","cursor":"` + testCursor + `"}`)); !errors.Is(err, errNoEvent) {
		t.Errorf("another message: %v", err)
	}
	for id, want := range map[string]int{"load_rtest_7": 7, "load_rother_7": -1, "load_rtest_99": -1, "load_rtest_x": -1} {
		if n := m.number(id); n != want {
			t.Errorf("%s: %d, not %d", id, n, want)
		}
	}
}

// FuzzMarks takes what a server may say.
func FuzzMarks(f *testing.F) {
	m := aRun()
	for number := range 20 {
		f.Add(m.streamed(number))
	}
	f.Add(`{"type":"load.rtest.`)
	f.Fuzz(func(t *testing.T, text string) {
		if n, cursor, err := m.event([]byte(text)); err == nil {
			if _, _, known := m.of(n); !known || len(cursor) != 0 && len(cursor) != len(testCursor) {
				t.Errorf("%q is event %d at %q", text, n, cursor)
			}
		}
		m.data([]byte("load.rtest.a"), []byte(text))
		m.data([]byte(text), []byte(`{"load":"rtest","n":0}`))
	})
}
