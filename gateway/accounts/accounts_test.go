package accounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metric "github.com/prometheus/client_model/go"

	"sluice/pkg/control"
	"sluice/pkg/dialect"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/key"
)

// stage is accounts over a log of their own, and what they say of it.
type stage struct {
	*Accounts
	t    *testing.T
	log  eventlog.Log
	said *bytes.Buffer
}

func open(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, log: eventlogtest.Mem(t, control.Topic), said: new(bytes.Buffer)}
	s.Accounts = New(Config{Control: s.node(), Logger: slog.New(slog.NewTextHandler(s.said, nil))})
	return s
}

// node opens another node's state on the same log.
func (s *stage) node() *control.Control {
	s.t.Helper()
	sealer, err := control.NewSealer(make([]byte, 32))
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := control.Open(s.t.Context(), control.Config{Log: s.log, Sealer: sealer, Lanes: 16})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

const (
	address  = "User@Example.com"
	password = key.Password("canary-securepass123")
	here     = "192.0.2.1/32"
)

func (s *stage) register() *dialect.Account {
	s.t.Helper()
	a, err := s.Register(s.t.Context(), dialect.Registration{Email: address, Password: password, Name: "John Doe", Org: "My Company", Slug: "my-company", Brand: "acme"})
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// refusedAs gives what a client is told.
func refusedAs(t *testing.T, err error) *dialect.Error {
	t.Helper()
	var e *dialect.Error
	if !errors.As(err, &e) {
		t.Fatalf("not refused: %v", err)
	}
	return e
}

func TestRegisterAndLogIn(t *testing.T) {
	s := open(t)
	made := s.register()
	p, err := s.cfg.Control.Authenticate(t.Context(), string(made.Key.Token))
	if err != nil || p.Org != made.Org || p.Environment != event.Live || p.Session || p.Can(key.Broadcast) || !p.Can(key.Publish) || !p.Can(key.Subscribe) || !p.Can(key.Manage) {
		t.Errorf("the key lets in %+v, %v", p, err)
	}
	if !strings.HasPrefix(string(made.Key.Token), made.Key.Start) || !strings.HasPrefix(made.Key.Start, "acme_live_") {
		t.Errorf("the key begins %s", made.Key.Start)
	}
	if org := s.cfg.Control.Org(made.Org); org.Plan != control.Free || org.Name != "My Company" || org.Email != address {
		t.Errorf("made %+v", org)
	}
	other := New(Config{Control: s.node()})
	session, err := other.Login(t.Context(), here, strings.ToUpper(address), password)
	if err != nil || session.User != made.User || session.Org != made.Org || session.OrgName != "My Company" || session.Slug != "my-company" || session.Name != "John Doe" {
		t.Fatalf("on another node: %+v, %v", session, err)
	}
	p, err = s.cfg.Control.Authenticate(t.Context(), string(session.Token))
	if err != nil || !p.Session || p.Org != made.Org || p.Can(key.Broadcast) || !p.ExpiresAt.Equal(session.ExpiresAt) {
		t.Fatalf("the session lets in %+v, %v", p, err)
	}
	if err := s.Logout(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := s.Logout(t.Context(), p); err != nil {
		t.Errorf("logged out once more: %v", err)
	}
	if _, err := s.cfg.Control.Authenticate(t.Context(), string(session.Token)); !errors.Is(err, control.ErrUnauthorized) {
		t.Errorf("after logging out: %v", err)
	}
	if s.cfg.Control.Key(made.Key.ID) == nil {
		t.Error("the key was revoked")
	}
}

// Nothing tells a wrong password from an address that nobody has: neither what is
// answered, nor how often and at what cost a password is hashed for it.
func TestNobodyLearnsWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.register()
		hashed := 0
		s.passwords.slots = make(chan struct{}) // one slot, that is counted as it is taken
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for {
				select {
				case <-s.passwords.slots:
					hashed++
					s.passwords.slots <- struct{}{}
				case <-ctx.Done():
					return
				}
			}
		}()
		login := func(email string) string {
			hashed = 0
			_, err := s.Login(t.Context(), here, email, "wrong password")
			e := *refusedAs(t, err)
			synctest.Wait()
			if e.Status != 401 || hashed != 1 {
				t.Errorf("%s: %+v, with %d passwords hashed", email, e, hashed)
			}
			return fmt.Sprint(e)
		}
		if told, toldToo := login(address), login("nobody@example.com"); told != toldToo {
			t.Errorf("told %s and %s", told, toldToo)
		}
		_, text := s.cfg.Control.User(account(address))
		theirs, err := parseKept(text)
		nobodys, err2 := parseKept(s.decoy)
		if theirs.cost() != nobodys.cost() || err != nil || err2 != nil {
			t.Errorf("a password is kept as %s, %v; nobody's is %s, %v", theirs, err, nobodys, err2)
		}
	})
}

// cost is all that decides how long it takes to verify.
func (k kept) cost() [5]int {
	return [5]int{int(k.memory), int(k.passes), int(k.threads), len(k.salt), len(k.sum)}
}

// Who registers is told of what is taken, and no password is logged.
func TestTaken(t *testing.T) {
	s := open(t)
	s.register()
	if _, err := s.Register(t.Context(), dialect.Registration{Email: strings.ToLower(address), Password: password, Org: "B", Brand: "acme"}); refusedAs(t, err).Status != 409 {
		t.Errorf("the address again: %v", err)
	}
	if _, err := s.Register(t.Context(), dialect.Registration{Email: "b@example.com", Password: password, Org: "B", Slug: "my-company", Brand: "acme"}); refusedAs(t, err).Status != 409 {
		t.Errorf("the slug again: %v", err)
	}
	if strings.Contains(s.said.String(), "canary") {
		t.Errorf("a password was logged: %s", s.said)
	}
}

// Logins to one account are bounded for each address, and for all together; whoever is
// refused is told until when. A minute later it is as if nothing had been.
func TestLoginsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		s.register()
		s.passwords.slots = make(chan struct{}) // nothing is hashed here: logins end at the bound or for want of room
		login := func(from, email string) *dialect.Error {
			_, err := s.Login(t.Context(), from, email, password)
			return refusedAs(t, err)
		}
		for _, email := range []string{address, "nobody@example.com"} {
			for n := range perAccountAndAddress + 2 {
				e := login(here, email)
				if want := n >= perAccountAndAddress; (e.Status == 429) != want || want && (e.RetryAfter < 1 || e.RetryAfter > 60) {
					t.Errorf("login %d of %s: %+v", n, email, e)
				}
			}
		}
		if busy, over := counted(s, failed), counted(s, limited); busy != 2*perAccountAndAddress || over != 4 {
			t.Errorf("counted %v that found no room and %v that were too many", busy, over)
		}
		time.Sleep(time.Minute)
		if e := login(here, address); e.Status != 503 || e.RetryAfter == 0 {
			t.Errorf("a minute later: %+v", e)
		}
		time.Sleep(time.Minute)
		var over atomic.Int64
		var wg sync.WaitGroup
		for n := range perAccount + 7 {
			wg.Go(func() {
				if login(fmt.Sprint(n), address).Status == 429 {
					over.Add(1)
				}
			})
		}
		wg.Wait()
		if over.Load() != 7 {
			t.Errorf("of %d at once from as many addresses %d were too many", perAccount+7, over.Load())
		}
	})
}

func counted(s *stage, outcome string) int {
	var m metric.Metric
	s.logins.WithLabelValues(outcome).Write(&m)
	return int(m.Counter.GetValue())
}

// However many come at once, no more are hashed at a time than there are slots; who waits
// for longer than two seconds is told to come again.
func TestHashesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hasher{make(chan struct{}, 2)}
		var inside, most, turned atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				leave, err := h.enter(t.Context())
				if err != nil {
					if e := refusedAs(t, err); e.Status == 503 && e.RetryAfter > 0 {
						turned.Add(1)
					}
					return
				}
				defer leave()
				now := inside.Add(1)
				for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
				}
				time.Sleep(900 * time.Millisecond)
				inside.Add(-1)
			})
		}
		wg.Wait()
		if most.Load() != 2 || turned.Load() != 14 { // two at 0, 0.9 and 1.8 s
			t.Errorf("%d at once, %d turned away", most.Load(), turned.Load())
		}
	})
}

// What is kept of a password is verified at the cost that it was made at; what isn't of
// argon2id, or would cost too much, is none.
func TestKept(t *testing.T) {
	h := newHasher()
	text, err := h.hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	// Made by another implementation, the reference's, of "password", at other costs than ours.
	const (
		memoryElsewhere  = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
		passesElsewhere  = "$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHQ$9qWtwbpyPd3vm1rB1GThgPzZ3/ydHL92zKL+15XZypg"
		threadsElsewhere = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"
	)
	for _, c := range []struct {
		text     string
		password key.Password
		right    bool
	}{
		{text, password, true}, {text, password + "x", false}, {text, "", false}, {decoy(), password, false},
		{memoryElsewhere, "password", true}, {memoryElsewhere, "Password", false}, {passesElsewhere, "password", true}, {threadsElsewhere, "password", true},
	} {
		if right, err := h.verify(t.Context(), c.text, c.password); right != c.right || err != nil {
			t.Errorf("%s: %v, %v", c.text, right, err)
		}
	}
	again, err := h.hash(t.Context(), password)
	if err != nil || again == text || !strings.HasPrefix(text, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("kept %s and %s: %v", text, again, err)
	}
	for _, bad := range []string{
		"", "plain", "$argon2i" + text[9:], strings.Replace(text, "v=19", "v=16", 1), strings.Replace(text, "m=19456", "m=99999999", 1), strings.Replace(text, "t=2", "t=0", 1),
		strings.Replace(text, "p=1", "p=0", 1), strings.Replace(text, "t=2", "t=4294967295", 1), text[:len(text)-4], text + "*", text[:strings.LastIndex(text, "$")],
	} {
		if k, err := parseKept(bad); err == nil {
			t.Errorf("%q is kept: %v", bad, k)
		}
	}
}

func FuzzKept(f *testing.F) {
	f.Add(decoy())
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKept(text)
		if err != nil {
			return
		}
		if again, err := parseKept(k.String()); err != nil || again.String() != k.String() {
			t.Fatalf("%q reads as %s, and that as %s: %v", text, k, again, err)
		}
	})
}

func TestRegistrationIsChecked(t *testing.T) {
	s := open(t)
	good := dialect.Registration{Email: "a@example.com", Password: password, Org: "A", Brand: "acme"}
	for _, c := range []struct {
		where  string // is wrong; empty: nothing is
		change func(r *dialect.Registration)
	}{
		{"", func(r *dialect.Registration) {}},
		{"", func(r *dialect.Registration) { r.Password, r.Slug = "8 bytes.", "a1" }},
		{"", func(r *dialect.Registration) { r.Password = key.Password(strings.Repeat("x", maxPassword)) }},
		{"email", func(r *dialect.Registration) { r.Email = "" }},
		{"email", func(r *dialect.Registration) { r.Email = "A <a@example.com>" }},
		{"email", func(r *dialect.Registration) { r.Email = "a@example.com\r\nBcc: b@example.com" }},
		{"email", func(r *dialect.Registration) { r.Email = strings.Repeat("x", 250) + "@example.com" }},
		{"password", func(r *dialect.Registration) { r.Password = "7 bytes" }},
		{"password", func(r *dialect.Registration) { r.Password = "ééééééé" }},
		{"password", func(r *dialect.Registration) { r.Password = key.Password(strings.Repeat("x", maxPassword+1)) }},
		{"name", func(r *dialect.Registration) { r.Name = strings.Repeat("x", maxName+1) }},
		{"org", func(r *dialect.Registration) { r.Org = "" }},
		{"org", func(r *dialect.Registration) { r.Org = "A\nB" }},
		{"slug", func(r *dialect.Registration) { r.Slug = "../" }},
		{"slug", func(r *dialect.Registration) { r.Slug = "admin" }},
		{"slug", func(r *dialect.Registration) { r.Slug = "My-Company" }},
		{"slug", func(r *dialect.Registration) { r.Slug = "-a" }},
		{"slug", func(r *dialect.Registration) { r.Slug = strings.Repeat("x", 64) }},
	} {
		r := good
		c.change(&r)
		issues := check(&r)
		if ok := len(issues) == 0; ok != (c.where == "") || !ok && (len(issues) > 1 || issues[0].Path[0] != c.where) {
			t.Errorf("%+v: %v, want one of %q", r, issues, c.where)
		}
	}
	s.cfg.Closed = true
	if _, err := s.Register(t.Context(), good); refusedAs(t, err).Status != 403 {
		t.Errorf("closed: %v", err)
	}
}
