package dispatcher_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
)

// More replays go to endpoints that take long than have room at once, or fit into
// memory. One to an endpoint that is quick doesn't wait for them, and each of them
// has its turn.
func TestReplaysToTheSlow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start()
		w.answers("http://quick", takes(10*time.Millisecond), takes(20*time.Second))
		var slow []*control.Replay
		for i := range 36 {
			org := fmt.Sprintf("org%d", i/18)
			if i%18 == 0 {
				w.do(&control.CreateOrg{ID: org, Name: org, Plan: control.Enterprise})
				data := make([]byte, 0, 10_000)
				data = append(data, `{"a":"`...)
				for len(data) < 9_990 {
					data = append(data, 'x')
				}
				w.append(60, event.Event{Type: "test.event", Org: org, Key: org, Data: append(data, `"}`...)})
			}
			slow = append(slow, w.replay(w.endpointOfIn(5, org, fmt.Sprintf("http://%d", i))))
		}
		w.publish(50)
		sleep(time.Minute)
		r := w.replay(w.endpointIn(5, "http://quick"))
		sleep(2 * time.Minute)
		if now := w.control.Replay(r.Endpoint, r.ID); !now.Ended() || now.Delivered != 50 {
			t.Errorf("after two minutes the one to a quick endpoint is %+v", now.Progress)
		}
		sleep(2 * time.Minute)
		for i, r := range slow {
			if n := len(w.of(fmt.Sprintf("http://%d", i))); n < 7 {
				t.Errorf("%s has made %d requests", r.ID, n)
			}
		}
	})
}

// A replay that follows one that was cancelled is known to have begun, although no
// snapshot says so: a kill repeats of it what was under way.
func TestReplayBehindCancelled(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		ep := w.endpoint("http://a")
		w.start()
		w.publish(800)
		sleep(time.Minute)
		w.stop()
		w.set(func(request) delivery.Outcome { return takes(200 * time.Millisecond) })
		m := &mortal{Log: w.log, rnd: rand.New(rand.NewPCG(1, 1))}
		m.left.Store(1 << 40)
		w.startOn(m, true)
		first := w.replay(ep)
		sleep(6 * time.Second) // a snapshot knows it
		w.do(&control.CancelReplay{Endpoint: ep.ID, Replay: first.ID})
		second := w.replay(ep)
		sleep(3 * time.Second)
		m.kill()
		w.stop()
		w.start()
		sleep(time.Minute)
		if second = w.ended(second); second.Delivered != 800 {
			t.Errorf("it ended with %+v", second.Progress)
		}
		came := make(map[string]int)
		for _, r := range w.of("http://a") {
			if r.delivery == w.replayed(second, r.event) {
				came[r.event]++
			}
		}
		twice := 0
		for _, n := range came {
			twice += n - 1
		}
		if twice > 16 {
			t.Errorf("%d came twice; 16 were under way at most", twice)
		}
	})
}
