package stream

import (
	"math/rand/v2"
	"testing"
	"unicode/utf8"
)

// TestQueue drives a queue at random against a plain model: every event comes
// out once, in order, or is declared in its place; nothing of ours is lost.
func TestQueue(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var q queue
		most := bounds{1 + rnd.IntN(20), 1 + rnd.IntN(2000)}
		var b batch
		var pushed, out int64 // offsets
		var ownIn, ownOut byte
		var dropped, declared int64
		spent := map[int64]bool{} // lost
		take := func() {
			q.take(&b, func(g gap) []byte {
				if g.first != out {
					t.Fatalf("seed %d: lost at %d, declared at %d", seed, out, g.first)
				}
				for range g.count {
					spent[out] = true
					out++
				}
				declared += g.count
				return nil
			})
			for _, f := range b.bufs {
				if f[0] == 'o' {
					if f[1] != ownOut {
						t.Fatalf("seed %d: ours out of order", seed)
					}
					// What was queued before it is out.
					ownOut++
				}
			}
		}
		events := 0
		for range 2000 {
			switch rnd.IntN(10) {
			case 0:
				q.pushOwn(item{bytes: []byte{'o', ownIn}})
				ownIn++
			case 1:
				before := out
				take()
				out += int64(b.events)
				_ = before
			default:
				f := make([]byte, 1+rnd.IntN(200))
				f[0] = 'e'
				dropped += int64(q.pushEvent(frame{bytes: f, offset: pushed}, most))
				pushed++
				events++
			}
			if q.events > most.events || q.bytes > most.bytes {
				t.Fatalf("seed %d: holds %d events, %d bytes", seed, q.events, q.bytes)
			}
		}
		for !q.empty() {
			take()
			out += int64(b.events)
		}
		if out != pushed || ownOut != ownIn || declared != dropped || q.bytes != 0 {
			t.Fatalf("seed %d: %d of %d out, %d of %d ours, %d of %d declared", seed, out, pushed, ownOut, ownIn, declared, dropped)
		}
		l := q.losses()
		for offset := range pushed {
			if offset >= l.floor && l.has(offset) != spent[offset] {
				t.Fatalf("seed %d: %d lost: %v, remembered: %v", seed, offset, spent[offset], l.has(offset))
			}
		}
	}
}

func FuzzParser(f *testing.F) {
	f.Add([]byte{0x81, 0x85, 1, 2, 3, 4, 1, 2, 3, 4, 5}, uint8(3))
	f.Add([]byte{0x01, 0x80, 0, 0, 0, 0, 0x89, 0x80, 0, 0, 0, 0, 0x80, 0x81, 0, 0, 0, 0, 'x'}, uint8(1))
	f.Add([]byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xe8, 0x81, 0xfe, 0, 200}, uint8(7))
	f.Add([]byte{0x41, 0x83, 0, 0, 0, 0, 0xf2, 0x48, 0xcd, 0x89, 0x80, 0, 0, 0, 0, 0x80, 0x84, 0, 0, 0, 0, 0xc9, 0xc9, 0x07, 0x00}, uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		// However the bytes are cut, the same is found in them.
		whole, pieces := new(recorder), new(recorder)
		a, b := parser{maxFragments: 9, inflates: true, sink: whole}, parser{maxFragments: 9, inflates: true, sink: pieces}
		ea := a.feed(append([]byte(nil), in...))
		var eb *Ending
		for rest := append([]byte(nil), in...); len(rest) > 0 && eb == nil; {
			n := min(1+int(step), len(rest))
			eb = b.feed(rest[:n])
			rest = rest[n:]
		}
		if (ea == nil) != (eb == nil) || ea != nil && *ea != *eb || whole.text != pieces.text {
			t.Fatalf("%q\nwhole:  %v %q\npieces: %v %q", in, ea, whole.text, eb, pieces.text)
		}
		if len(a.msg) > 300+300/8 || len(a.control) > maxControl {
			t.Fatal("unbounded")
		}
	})
}

// FuzzUTF8 holds the check of a text in pieces against the library's of the whole.
func FuzzUTF8(f *testing.F) {
	for _, text := range []string{"", "aé€😀", "\xc0\x80", "\xed\xa0\x80", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xe2\x82", "\xf8"} {
		f.Add([]byte(text), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var u utf8Check
		good := true
		for rest := in; len(rest) > 0 && good; {
			n := min(1+int(step), len(rest))
			good = u.take(rest[:n])
			rest = rest[n:]
		}
		if got := good && u.whole(); got != utf8.Valid(in) {
			t.Fatalf("%q: %v", in, got)
		}
		// As long as nothing is refused, a text can still come of it.
		var v utf8Check
		for i := range in {
			if !v.take(in[i : i+1]) {
				break
			}
			text := append([]byte(nil), in[:i+1]...)
			if v.need > 0 {
				text = append(append(text, v.low), "\x80\x80"[:v.need-1]...)
			}
			if !utf8.Valid(text) {
				t.Fatalf("%q of %q was taken", in[:i+1], in)
			}
		}
	})
}

type recorder struct{ text string }

func (r *recorder) most() int        { return 300 }
func (r *recorder) onFrame() *Ending { r.text += "|"; return nil }
func (r *recorder) onMessage(op byte, msg []byte) *Ending {
	r.text += string(op) + string(msg)
	return nil
}
func (r *recorder) onControl(op byte, payload []byte, code uint16) *Ending {
	r.text += string(op) + string(payload)
	return nil
}

// TestQueueNeverEmpty: what was taken leaves its room to what comes, even if some of ours
// waits all the time.
func TestQueueNeverEmpty(t *testing.T) {
	var q queue
	var b batch
	for range 2000 {
		for q.own <= batchFrames {
			q.pushOwn(item{bytes: []byte{1}})
		}
		q.take(&b, nil)
	}
	if n := cap(q.front.own); q.own == 0 || n > 4*batchFrames {
		t.Errorf("room for %d of ours, %d are there", n, q.own)
	}
}
