package stream_test

import (
	"strings"
	"testing"

	"sluice/pkg/event"
	"sluice/pkg/filter"
)

func with(data string) func(*event.Event) {
	return func(ev *event.Event) { ev.Data = []byte(data) }
}

// A filter leaves out events whose data doesn't meet it, live and in a replay, and of
// its own subscribe only.
func TestFilter(t *testing.T) {
	s := open(t, nil)
	subscribe := func(c *client, rest string) {
		c.say(`{"type":"subscribe","channels":["rfq.*"],` + rest + `}`)
	}
	c := s.join(`"other.*"`)
	subscribe(c, `"filter":{"quote.price":{"gte":"1.50"},"$or":[{"pair":{"prefix":"ETH/"}},{"n":2}]}`)
	c.want("subscribe.ok")
	datas := []string{
		`{"n":0,"pair":"ETH/USDC","quote":{"price":1.4}}`,
		`{"n":1,"pair":"ETH/USDC","quote":{"price":1.5}}`,
		`{"n":2,"pair":"BTC/USDC","quote":{"price":"2"}}`,
		`{"n":3,"pair":"BTC/USDC","quote":{"price":2}}`,
		`{"n":4,"pair":"ETH/DAI","quote":{"price":1e21}}`,
	}
	for _, data := range datas {
		s.publish("rfq.created", with(data))
	}
	c.wantN(1, 2, 4)

	subscribe(c, `"filter":{"n":{"in":[0,4]}},"cursor":"`+s.cursor(0)+`"`) // besides the first, which has sent 4
	c.want("subscribe.ok")
	c.wantN(0)
	for _, data := range datas {
		s.publish("rfq.created", with(data))
	}
	c.wantN(0, 1, 2, 4)
	c.say(`{"type":"unsubscribe","channels":["rfq.*"]}`)
	c.want("unsubscribe.ok")
	s.publish("rfq.created", with(datas[4]))
	s.publish("other.thing", with(`{"n":5}`))
	c.wantN(5)

	d := s.join(`"other.*"`)
	subscribe(d, `"filter":{},"cursor":"`+s.cursor(9)+`"`) // which is none
	d.want("subscribe.ok")
	d.wantN(4, 4)

	for text, path := range map[string]string{
		`{"a":{"near":1}}`:       "filter.a.near",
		`[]`:                     "filter: must be",
		`"rfq"`:                  "filter: must be",
		`{"a":9007199254740993}`: "filter.a",
		`{"a":"` + strings.Repeat("x", filter.MaxText) + `"}`: "4096",
	} {
		e := s.join(`"x.y"`)
		subscribe(e, `"filter":`+text)
		if m := e.wantError("bad_request"); !strings.Contains(m.Message, path) {
			t.Errorf("%.60s: %s", text, m.Message)
		}
		e.silentlyOpen()
	}
}
