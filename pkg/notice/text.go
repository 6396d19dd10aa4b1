package notice

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	"sluice/pkg/control"
)

// listed bounds the endpoints that a mail names; it counts the rest.
const listed = 50

// compose writes the mail that tells an org of the items, which are in order.
func compose(org *control.Org, items []item) *Mail {
	m := &Mail{To: org.Email, ID: mailID(org.ID, items)}
	counts := make(map[about]int)
	for _, it := range items {
		counts[it.about]++
	}
	m.Subject = subject(items, counts)
	var b strings.Builder
	fmt.Fprintf(&b, "To whoever looks after the webhooks of %s (%s).\n", printable(org.Name), org.ID)
	var last about
	left := listed
	for _, it := range items {
		if it.about != last {
			last = it.about
			b.WriteString("\n" + heading(it.about, counts[it.about]) + "\n")
		}
		if left--; left >= 0 {
			b.WriteString("\n" + it.text())
		}
	}
	if left < 0 {
		fmt.Fprintf(&b, "\nand %d more: sluice endpoint list\n", -left)
	}
	if counts[disabled] > 0 {
		b.WriteString(`
What a disabled endpoint is owed is held for seven days. Mend the receiver, then enable
the endpoint, which delivers what it missed since its first failure:

    sluice endpoint enable ID          or: POST /v1/webhooks/ID/enable
`)
	}
	if counts[failing] > 0 {
		b.WriteString(`
A failing endpoint is tried again at growing intervals, and what is new waits for it, in
order. It is disabled if nothing succeeds for about an hour. Nothing is to be done here
once its receiver answers with a status of 2xx.
`)
	}
	m.Text = b.String()
	return m
}

func subject(items []item, counts map[about]int) string {
	first := items[0]
	switch n := counts[first.about]; {
	case first.about == disabled && n == 1:
		return "Webhook endpoint " + first.endpoint + " was disabled"
	case first.about == disabled:
		return fmt.Sprintf("%d webhook endpoints were disabled", n)
	case first.about == failing && n == 1:
		return "Webhook endpoint " + first.endpoint + " is failing"
	case first.about == failing:
		return fmt.Sprintf("%d webhook endpoints are failing", n)
	case n == 1:
		return "Deliveries to webhook endpoint " + first.endpoint + " have expired"
	default:
		return fmt.Sprintf("Deliveries to %d webhook endpoints have expired", n)
	}
}

func heading(a about, n int) string {
	one := n == 1
	switch {
	case a == disabled && one:
		return "This endpoint was disabled, and gets nothing until it is enabled:"
	case a == disabled:
		return fmt.Sprintf("These %d endpoints were disabled, and get nothing until they are enabled:", n)
	case a == failing && one:
		return "This endpoint has begun to fail:"
	case a == failing:
		return fmt.Sprintf("These %d endpoints have begun to fail:", n)
	default:
		return "Deliveries expired that were held for too long, and will not be sent:"
	}
}

func (it *item) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "    %s\n    %s, %s\n", it.endpoint, printable(it.url), it.env)
	switch it.about {
	case disabled:
		fmt.Fprintf(&b, "    %s: %s\n", stamp(it.at), printable(it.reason))
		if it.times > 1 {
			fmt.Fprintf(&b, "    it was enabled, and disabled again, since: %d times in all\n", it.times)
		}
	case failing:
		fmt.Fprintf(&b, "    since %s; the last failure: %s\n", stamp(it.at), printable(it.reason))
	case missed:
		fmt.Fprintf(&b, "    %d more deliveries, %d since it was enabled last\n", it.more, it.count)
	}
	return b.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// mailID follows from what the mail tells, so that it is the same when it is sent
// again.
func mailID(org string, items []item) string {
	h := sha256.New()
	fmt.Fprintln(h, org)
	for _, it := range items {
		fmt.Fprintln(h, it.about, it.endpoint, it.at.UnixMilli(), it.count)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// printable leaves out what could move a reader's cursor or end a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}

// address gives an endpoint's URL without what may be secret in it: user,
// password, query.
func address(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
