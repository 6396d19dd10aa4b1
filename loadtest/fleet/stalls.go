package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"sluice/loadtest/ledger"
)

// What a stall may be why of, and what may be why of one.
const (
	patience = 10 * time.Second // for an append, and for the one before it
	after    = 20 * time.Second // a fault may still be why
)

// unanswered is what a lane says that stopped because brokers were too slow.
var unanswered = regexp.MustCompile("didn't answer in time|timed out|i/o timeout|hasn't been heard for too long")

// mostLine bounds a line that a process logs.
const mostLine = 1 << 20

// Stalls notes the faults that nobody made: on a machine that has more to do than
// it can, brokers don't answer in time, and a lane whose append they don't answer
// begins again. Its dispatcher says so. A lane that stops for another reason, when
// nothing was broken, has failed. It is called once, when all is over.
func (n *Nemesis) Stalls(nodes []*Node) {
	for _, of := range nodes {
		if err := n.stalls(of); err != nil {
			n.fail(err)
		}
	}
}

func (n *Nemesis) stalls(of *Node) error {
	file, err := os.Open(of.Log())
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, mostLine)
	for lines.Scan() {
		var said struct {
			Time  time.Time
			Error string
		}
		if !bytes.Contains(lines.Bytes(), []byte(`"msg":"lane stopped"`)) || json.Unmarshal(lines.Bytes(), &said) != nil || n.explains(said.Time) {
			continue
		}
		if !unanswered.MatchString(said.Error) {
			n.fail(fmt.Errorf("%s had a lane stop at %s, and nobody had broken anything: %s", of, said.Time.Format(time.TimeOnly), said.Error))
			continue
		}
		n.note(ledger.Fault{What: "stall", Whom: of.Name, From: said.Time.Add(-patience), Until: said.Time, Repeats: true})
		n.Say(fmt.Sprintf("%-8s %-14s at %s: a lane stopped, and nobody had broken anything", "stall", of, said.Time.Format(time.TimeOnly)))
	}
	return lines.Err()
}

// explains says whether a fault may be why a lane stopped.
func (n *Nemesis) explains(stopped time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.faults, func(f ledger.Fault) bool {
		return f.Repeats && stopped.After(f.From) && stopped.Before(f.Until.Add(after))
	})
}
