package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/gateway/ingest"
	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/dialect"
	"sluice/pkg/endpoint"
	"sluice/pkg/event"
	"sluice/pkg/eventlog"
	"sluice/pkg/notice"
)

// postbox is a mail server that takes, or doesn't, as the test says.
type postbox struct {
	mu     sync.Mutex
	answer func(m *notice.Mail) error // nil: it takes all
	tries  int
	took   []notice.Mail
	at     []time.Time // when
}

func (p *postbox) Send(_ context.Context, m *notice.Mail) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if p.answer != nil {
		if err := p.answer(m); err != nil {
			return err
		}
	}
	p.took, p.at = append(p.took, *m), append(p.at, time.Now())
	return nil
}

func (p *postbox) set(answer func(*notice.Mail) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer, p.tries = answer, 0
}

// count gives how many mails were sent since set, and how many were taken in all.
func (p *postbox) count() (tries, took int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tries, len(p.took)
}

// mortalMailer dies with its process.
type mortalMailer struct {
	*postbox
	process *mortal
}

func (m mortalMailer) Send(ctx context.Context, mail *notice.Mail) error {
	if m.process.dead.Load() {
		return errKilled
	}
	return m.postbox.Send(ctx, mail)
}

// about lists what was taken whose text has all words.
func (p *postbox) about(words ...string) (mails []notice.Mail) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.took {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(m.Subject+m.Text, w) }) {
			mails = append(mails, m)
		}
	}
	return mails
}

// notify runs a notifier on the log, with an ingest of its own, until stop.
func (w *world) notify(log eventlog.Log, mailer notice.Mailer) (stop func()) {
	in := ingest.New(ingest.Config{Log: log, OrgExists: func(string) bool { return true }, Logger: logger()})
	stopNotifier := w.notifyBy(log, mailer, func(ctx context.Context, ev *event.Event) error {
		err := in.Publish(ctx, ev)
		var refused *dialect.Error
		if errors.As(err, &refused) && refused.Status == 409 {
			return nil
		}
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	return func() { stopNotifier(); cancel(); <-done }
}

func (w *world) notifyBy(log eventlog.Log, mailer notice.Mailer, publish func(context.Context, *event.Event) error) (stop func()) {
	n := notice.New(notice.Config{Log: log, Control: w.control, Mailer: mailer, Logger: logger(), Publish: publish})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	return func() { cancel(); <-done }
}

// disablings lists the events that tell of a disabling.
func (w *world) disablings() (events []*event.Event) {
	w.t.Helper()
	p := eventlog.Partition{Topic: event.Live.Topic()}
	from, end, err := w.log.Bounds(context.Background(), p)
	for err == nil && from < end {
		var records []eventlog.Record
		records, err = w.log.Read(context.Background(), p, from, 1<<20)
		for _, r := range records {
			ev, err := event.FromLog(r.Value, event.Live, r.Offset, r.Time)
			if err != nil {
				w.t.Fatal(err)
			}
			if ev.Type == event.EndpointDisabled {
				events = append(events, ev)
			}
			from = r.Offset + 1
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return events
}

func (w *world) reachable() {
	email := "ops@example.com"
	w.do(&control.UpdateOrg{Org: "org", Email: &email})
}

// broken500 has the addresses fail that begin so.
func broken500(prefix string) func(request) delivery.Outcome {
	return func(r request) delivery.Outcome {
		if strings.HasPrefix(r.url, prefix) {
			return broken
		}
		return ok
	}
}

// An endpoint that dies: a warning, then a mail and an event when it is disabled.
// The event goes to the org's others and not to itself.
func TestDisabledIsTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.reachable()
		dead, other := w.endpoint("http://user:word@dead/hook?token=x"), w.endpoint("http://other")
		w.set(broken500("http://user"))
		box := new(postbox)
		defer w.notify(w.log, box)()
		w.start()
		w.publish(1)
		sleep(4 * time.Minute)
		got := box.about("is failing", dead.ID, "http_error, status 500")
		if _, took := box.count(); len(got) != 1 || took != 1 {
			t.Fatalf("after 4 minutes there are %d warnings in %d mails", len(got), took)
		}
		sleep(4 * time.Hour)
		if w.status(dead.ID) != endpoint.Disabled {
			t.Fatal("it isn't disabled")
		}
		mails := box.about("was disabled", dead.ID, "5 failures in a row", "endpoint enable")
		if _, took := box.count(); len(mails) != 1 || took != 2 {
			t.Fatalf("%d of %d mails say that it was disabled: %+v", len(mails), took, box.about())
		}
		for _, secret := range []string{"word", "token"} {
			if strings.Contains(mails[0].Text, secret) {
				t.Errorf("the mail has %q: %s", secret, mails[0].Text)
			}
		}
		events := w.disablings()
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		want := fmt.Sprintf(`{"endpointId":%q,"url":"http://dead/hook","reason":%q,"disabledAt":%q}`, dead.ID,
			w.control.Endpoint(dead.ID).Reason, w.control.Endpoint(dead.ID).DisabledAt.Format(event.TimestampLayout))
		if got := string(events[0].Data); got != want {
			t.Errorf("the event says %s, want %s", got, want)
		}
		if got := ids(w.of(other.URL)); !slices.Equal(got, []string{"e00001", events[0].ID}) {
			t.Errorf("the other endpoint got %v", got)
		}
		w.set(nil)
		w.forget()
		w.do(&control.EnableEndpoint{Endpoint: dead.ID})
		sleep(time.Hour)
		if got := ids(w.of(dead.URL)); !slices.Equal(got, []string{"e00001"}) {
			t.Errorf("the endpoint itself got %v", got)
		}
		if _, took := box.count(); took != 2 {
			t.Errorf("%d mails", took)
		}
	})
}

// One that is down for less than the minute that a mail waits brings none, and
// one that comes and goes a warning a day.
func TestNoMailForAHiccup(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.reachable()
		w.endpoint("http://a")
		began := time.Now()
		flapping := false
		w.set(func(request) delivery.Outcome {
			since := time.Since(began)
			if since < 20*time.Second || flapping && since%(2*time.Hour) < 3*time.Minute {
				return broken
			}
			return ok
		})
		box := new(postbox)
		defer w.notify(w.log, box)()
		w.start()
		w.publish(1)
		sleep(2 * time.Hour)
		if tries, _ := box.count(); tries != 0 {
			t.Errorf("%d mails for 20 seconds", tries)
		}
		flapping = true
		for range 14 {
			w.publish(1)
			sleep(2 * time.Hour)
		}
		if n, all := len(box.about("is failing")), len(box.about()); n != 2 || all != 2 {
			t.Errorf("%d warnings in %d mails in 28 hours", n, all)
		}
	})
}

// A warning is sent once, though another takes the notices over while its endpoint
// still fails.
func TestWarnedOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.reachable()
		w.endpoint("http://dead")
		w.set(broken500("http://dead"))
		box := new(postbox)
		w.start()
		w.publish(1)
		for range 4 {
			stop := w.notify(w.log, box)
			sleep(4 * time.Minute)
			stop()
		}
		if n := len(box.about("is failing")); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
}

// Fifty endpoints of one receiver that dies: a mail that warns, one that tells,
// and an event for each; events that tell of others disable nobody twice.
func TestOneMailForMany(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const many = 50
		w.reachable()
		for i := range many {
			w.endpoint(fmt.Sprintf("http://dead/%d", i))
		}
		w.set(broken500("http://dead"))
		box := new(postbox)
		defer w.notify(w.log, box)()
		w.start()
		w.publish(1)
		sleep(6 * time.Hour)
		if got := w.disablings(); len(got) != many {
			t.Errorf("%d events", len(got))
		}
		if a, b := len(box.about("50 webhook endpoints are failing")), len(box.about("50 webhook endpoints were disabled")); a != 1 || b != 1 || len(box.about()) != 2 {
			t.Errorf("%d warnings, %d that tell, of %d mails", a, b, len(box.about()))
		}
	})
}

// Notifiers are killed at any append, and a mail server is down at times. Every
// disabling has one event; and one mail, or as many more as died between the
// server's word and their own record of it.
func TestNoticesOverKills(t *testing.T) {
	inWorlds(t, 4, 1, killNotifiers)
}

func killNotifiers(w *world, seed uint64) {
	t := w.t
	rnd := rand.New(rand.NewPCG(seed, 9))
	w.reachable()
	box := new(postbox)
	var refused int
	moods := rand.New(rand.NewPCG(seed, 10))
	box.set(func(*notice.Mail) error {
		if moods.IntN(3) == 0 {
			refused++
			return errors.New("down")
		}
		return nil
	})
	var deaths []time.Time
	type disabling struct {
		id string
		at time.Time
	}
	var all []disabling
	var endpoints []*endpoint.Endpoint
	for i := range 4 {
		endpoints = append(endpoints, w.endpoint(fmt.Sprintf("http://%d", i)))
	}
	for round := range 12 {
		m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(rnd.Uint64(), 3))}
		m.left.Store(1 << 40)
		stop := w.notify(m, mortalMailer{box, m})
		sleep(time.Second)
		m.left.Store(int64(1 + rnd.IntN(7)))
		ep := w.control.Endpoint(endpoints[round%len(endpoints)].ID)
		if ep.Status == endpoint.Disabled {
			ep = w.do(&control.EnableEndpoint{Endpoint: ep.ID}).Endpoint
		}
		ep = w.do(&control.DisableEndpoint{Endpoint: ep.ID, Epoch: ep.Epoch, Reason: fmt.Sprint("round ", round)}).Endpoint
		all = append(all, disabling{ep.ID, ep.DisabledAt})
		sleep(time.Duration(rnd.IntN(90)) * time.Second)
		if rnd.IntN(3) > 0 {
			sleep(20 * time.Minute)
		}
		m.kill() // if it lives still
		deaths = append(deaths, m.died)
		stop()
	}
	box.set(nil)
	stop := w.notify(w.log, box)
	sleep(3 * time.Hour)
	stop()
	events := make(map[string]int)
	for _, ev := range w.disablings() {
		events[ev.ID]++
	}
	newest := make(map[string]time.Time)
	for _, d := range all {
		newest[d.id] = d.at
	}
	twice := 0
	for _, d := range all {
		if n := events[event.DisabledID(d.id, d.at)]; n != 1 {
			t.Errorf("seed %d: %d events tell that %s was disabled at %v", seed, n, d.id, d.at)
		}
		var told []time.Time
		for i, m := range box.took {
			if strings.Contains(m.Text, d.id) && strings.Contains(m.Text, d.at.Format("2006-01-02 15:04:05")) {
				told = append(told, box.at[i])
			}
		}
		if newest[d.id].After(d.at) && len(told) == 0 {
			continue // a later mail tells of both, and counts them
		}
		if len(told) == 0 {
			t.Errorf("seed %d: no mail tells that %s was disabled at %v", seed, d.id, d.at)
			continue
		}
		for _, at := range told[:len(told)-1] {
			twice++
			// Its notifier died before the log had it.
			if !slices.ContainsFunc(deaths, func(died time.Time) bool { return !died.Before(at) && died.Sub(at) < time.Second }) {
				t.Errorf("seed %d: a mail at %v tells that %s was disabled, and another later, though nobody died then", seed, at, d.id)
			}
		}
	}
	if len(events) != len(all) {
		t.Errorf("seed %d: %d events for %d disablings", seed, len(events), len(all))
	}
	t.Logf("%d disablings, %d mails, %d told again over %d kills, the server failed %d times", len(all), len(box.took), twice, len(deaths), refused)
}

// A server that is down holds up no delivery, and what is owed goes out, in one
// mail, when it is back; one that refuses the org's address is left alone.
func TestMailServerDown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.reachable()
		well := w.endpoint("http://well")
		for i := range 3 {
			w.endpoint(fmt.Sprintf("http://dead/%d", i))
		}
		w.set(broken500("http://dead"))
		box := new(postbox)
		box.set(func(*notice.Mail) error { return errors.New("connection refused") })
		defer w.notify(w.log, box)()
		w.start()
		owed := len(w.publish(3))
		sleep(8 * time.Hour)
		if got := len(w.of(well.URL)); got != owed+3 {
			t.Errorf("the endpoint that is well got %d, want %d", got, owed+3)
		}
		if tries, _ := box.count(); tries < 8 || tries > 80 {
			t.Errorf("the server was tried %d times in 8 hours", tries)
		}
		box.set(nil)
		sleep(90 * time.Minute)
		if _, took := box.count(); took != 1 || len(box.about("3 webhook endpoints were disabled")) != 1 {
			t.Errorf("%d mails, and not one that tells it", took)
		}
		box.set(func(*notice.Mail) error { return fmt.Errorf("%w: no such user", notice.ErrRefused) })
		ep := w.control.Endpoint(well.ID)
		w.do(&control.DisableEndpoint{Endpoint: ep.ID, Epoch: ep.Epoch, Reason: "a test"})
		sleep(4 * time.Hour)
		if tries, _ := box.count(); tries != 1 {
			t.Errorf("a mail that was refused was sent %d times", tries)
		}
	})
}

// What expires while it is held is counted in a mail, and more of it in the next
// day's.
func TestMissedIsTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.reachable()
		ep := w.endpoint("http://a")
		box := new(postbox)
		stop := w.notifyBy(w.log, box, nil)
		sleep(time.Second) // what was missed before there was a notifier isn't told
		w.do(&control.AddMissed{Endpoint: ep.ID, Count: 3})
		sleep(30 * time.Second)
		w.do(&control.AddMissed{Endpoint: ep.ID, Count: 2})
		sleep(time.Hour)
		if n := len(box.about("have expired", "5 more deliveries, 5 since")); n != 1 || len(box.about()) != 1 {
			t.Fatalf("%d of %d mails: %+v", n, len(box.about()), box.about())
		}
		for range 10 {
			w.do(&control.AddMissed{Endpoint: ep.ID, Count: 1})
			sleep(time.Hour)
		}
		stop()
		stop = w.notifyBy(w.log, box, nil)
		sleep(24 * time.Hour)
		if n := len(box.about("10 more deliveries, 15 since")); n != 1 || len(box.about()) != 2 {
			t.Fatalf("%d of %d mails: %+v", n, len(box.about()), box.about())
		}
		w.do(&control.EnableEndpoint{Endpoint: ep.ID})
		w.do(&control.AddMissed{Endpoint: ep.ID, Count: 15})
		sleep(24 * time.Hour)
		if n := len(box.about("15 more deliveries, 15 since")); n != 1 || len(box.about()) != 3 {
			t.Errorf("%d of %d mails: %+v", n, len(box.about()), box.about())
		}
		stop()
	})
}

// What was disabled before there were notices brings no mail when there are, and
// nothing is told again because the topic has forgotten it.
func TestNothingIsToldTwice(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.reachable()
		var eps []*endpoint.Endpoint
		for i := range 3 {
			ep := w.endpoint(fmt.Sprintf("http://%d", i))
			eps = append(eps, ep)
			w.do(&control.DisableEndpoint{Endpoint: ep.ID, Epoch: ep.Epoch, Reason: "before"})
		}
		sleep(time.Second)
		box := new(postbox)
		published := 0
		publish := func(context.Context, *event.Event) error { published++; return nil }
		stop := w.notifyBy(w.log, box, publish)
		sleep(time.Hour)
		stop()
		if len(box.about()) > 0 || published > 0 {
			t.Errorf("%d mails, %d events of what was before", len(box.about()), published)
		}
		ep := w.do(&control.EnableEndpoint{Endpoint: eps[0].ID}).Endpoint
		sleep(time.Minute)
		w.do(&control.DisableEndpoint{Endpoint: ep.ID, Epoch: ep.Epoch, Reason: "since"})
		stop = w.notifyBy(w.log, box, publish) // it wasn't there when that happened
		sleep(25 * time.Hour)
		stop()
		// What is told of the three endpoints was said again: the rest may be forgotten.
		p := eventlog.Partition{Topic: notice.Topic.Name}
		if _, end, err := w.log.Bounds(t.Context(), p); err != nil || w.log.Trim(t.Context(), p, end-3) != nil {
			t.Fatal(err)
		}
		defer w.notifyBy(w.log, box, publish)()
		sleep(time.Hour)
		if len(box.about()) != 1 || published != 1 {
			t.Errorf("%d mails, %d events", len(box.about()), published)
		}
	})
}
