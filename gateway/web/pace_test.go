package web

import (
	"log/slog"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// always is a listener to which somebody comes whenever it is asked.
type always struct{ net.Listener }

func (always) Accept() (net.Conn, error) { return nobody{}, nil }
func (always) Close() error              { return nil }

type nobody struct{ net.Conn }

func (nobody) RemoteAddr() net.Addr { return nil }

// takes gives how many connections a listener takes within that time, of which
// something becomes.
func takes(t *testing.T, below net.Listener, within time.Duration, becomes func(*listener, *counted)) (n int) {
	synctest.Test(t, func(t *testing.T) {
		l := newListener(below, &Config{Logger: slog.New(slog.DiscardHandler)}, func() {})
		for began := time.Now(); time.Since(began) < within && n < many; n++ {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			becomes(l, c.(*counted))
		}
	})
	return n
}

// many is more than come in at a pace.
const many = 20_000

func streams(*listener, *counted) {}

// A crowd of streams comes in at a pace, so that those that are there get their
// events; calls come in as they can.
func TestCrowdComesInAtAPace(t *testing.T) {
	pace := int(3 * time.Second / streamsApart * time.Duration(runtime.GOMAXPROCS(0)))
	if n := takes(t, always{}, 3*time.Second, streams); n < pace || n > pace+streamsAtOnce+10 {
		t.Errorf("%d streams came in, and %d and %d at once may", n, pace, streamsAtOnce)
	}
	if n := takes(t, always{}, time.Second, func(_ *listener, c *counted) { c.isCall(); c.isCall() }); n < many {
		t.Errorf("no more than %d calls came in", n)
	}
	if n := takes(t, always{}, time.Second, func(l *listener, _ *counted) { l.hurry.Store(true) }); n < many {
		t.Errorf("no more than %d came in when the port was about to close", n)
	}
}

// A crowd comes in by the few, so that it isn't woken for each.
func TestCrowdComesInByTheFew(t *testing.T) {
	came := make(map[time.Time]int)
	n := takes(t, always{}, time.Second, func(*listener, *counted) { came[time.Now()]++ })
	if most := n/inARow + 1; len(came) > most {
		t.Errorf("%d came in at %d times, not %d", n, len(came), most)
	}
}

// Where the processors are busy a crowd comes in more slowly than they allow, and comes in
// all the same.
func TestCrowdGivesWay(t *testing.T) {
	busy := func(turn time.Duration) func(*listener, *counted) {
		return func(*listener, *counted) { time.Sleep(turn) }
	}
	turn := 3 * streamsApart / time.Duration(runtime.GOMAXPROCS(0)) // at which they would come in otherwise
	if n, most := takes(t, always{}, 3*time.Second, busy(turn)), int(3*time.Second/turn); n > most*2/3+streamsAtOnce || n < most/3 {
		t.Errorf("%d came in while %d might have", n, most)
	}
	if n := takes(t, always{}, 30*time.Second, busy(100*time.Millisecond)); n < 200 {
		t.Errorf("no more than %d came in while they were very busy", n)
	}
	calls := func(_ *listener, c *counted) { c.isCall(); time.Sleep(turn) }
	if n, most := takes(t, always{}, 3*time.Second, calls), int(3*time.Second/turn); n < most {
		t.Errorf("%d calls came in while %d might have", n, most)
	}
}

// queued is always with the queue of a port to which nobody has come.
type queued struct {
	always
	syscall.Conn
}

// Who comes when nobody waits isn't kept waiting, however many came before.
func TestNoPaceWhereNobodyWaits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the system doesn't tell who waits")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if n := takes(t, queued{Conn: ln.(*net.TCPListener)}, time.Second, streams); n < many {
		t.Errorf("no more than %d came in", n)
	}
	waits, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer waits.Close()
	if n := takes(t, queued{Conn: ln.(*net.TCPListener)}, time.Second, streams); n >= many {
		t.Error("all came in at once, though somebody waits")
	}
}

// processors are what all that a process does takes turns at; who asks first is first.
type processors chan struct{}

func (p processors) work(took time.Duration) {
	p <- struct{}{}
	time.Sleep(took)
	<-p
}

// busy is a listener to which somebody comes whenever it is asked, in a process whose
// processors others want as well.
type busy struct {
	always
	processors
	asked time.Time     // last
	took  time.Duration // of the processors
}

// What one of a crowd takes of a processor: to wake whoever takes it, to be taken, and, a
// little later, to come in and be given what was missed.
const (
	toWake   = 200 * time.Microsecond
	toTake   = 20 * time.Microsecond
	toComeIn = 500 * time.Microsecond
)

func (b *busy) Accept() (net.Conn, error) {
	took := toTake
	if time.Now().After(b.asked) {
		took += toWake
	}
	b.work(took)
	b.took += took + toComeIn
	b.asked = time.Now()
	return nobody{}, nil
}

// While a crowd comes in, those that are there get their events when they are due, but for
// a moment behind the first hundred; and they have two thirds of the processors and more.
func TestEventsBesideACrowd(t *testing.T) {
	const crowd, roundTrip = 4000, 20 * time.Millisecond
	const every, toSend = 5 * time.Millisecond, time.Millisecond // events
	synctest.Test(t, func(t *testing.T) {
		cpus := make(processors, 2)
		below := &busy{processors: cpus}
		l := newListener(below, &Config{Logger: slog.New(slog.DiscardHandler)}, func() {})
		l.apart = streamsApart / time.Duration(cap(cpus))
		began := time.Now()
		in := make(chan time.Duration)
		go func() {
			var coming sync.WaitGroup
			for range crowd {
				if _, err := l.Accept(); err != nil {
					t.Error(err)
				}
				coming.Go(func() {
					time.Sleep(roundTrip)
					cpus.work(toComeIn)
				})
			}
			coming.Wait()
			in <- time.Since(began)
		}()
		var late []time.Duration
		var took time.Duration
		for due := began; took == 0; due = due.Add(every) {
			select {
			case took = <-in:
			case <-time.After(time.Until(due)):
				cpus.work(toSend)
				late = append(late, time.Since(due)-toSend)
			}
		}
		slices.Sort(late)
		if most, hardly := late[len(late)-1], late[len(late)*99/100]; most > streamsAtOnce*toComeIn || hardly > every {
			t.Errorf("of %d events one was %v late, and one of a hundred %v", len(late), most, hardly)
		}
		if all := took * time.Duration(cap(cpus)); below.took > all/3 {
			t.Errorf("the crowd took %v of the processors' %v", below.took, all)
		}
		if longest := crowd * l.apart * 5 / 4; took > longest {
			t.Errorf("all were in after %v, not %v", took, longest)
		}
	})
}
