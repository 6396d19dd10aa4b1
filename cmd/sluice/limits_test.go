package main

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// TestLimitsAcrossProcesses: what an org asks of one process is gone for it at the other
// about a second later, of the minute's requests and of the month's, and still is when
// one of them was killed and started again.
func TestLimitsAcrossProcesses(t *testing.T) {
	t.Run("kafka", func(t *testing.T) {
		args := append(kafkaArgs(t), "--admin-token", "the operator")
		one, two := startProcess(t, args), startProcess(t, args)
		for try := range 5 {
			if tellLimits(t, fmt.Sprint("org_asks", try), one, two) {
				return
			}
			t.Log("a minute was over before all was asked: once more")
		}
		t.Error("it takes more than a minute each time")
	})
}

// tellLimits has an org ask both processes; false: that took longer than its minute.
func tellLimits(t *testing.T, org string, one, two *process) bool {
	const most = 100 // of plan starter
	admin := &client{base: "http://" + one.ops, token: "the operator"}
	do := func(path string, in, out any) {
		t.Helper()
		if _, err := admin.call(t.Context(), "POST", "/admin/v1/orgs"+path, in, out); err != nil {
			t.Fatal(err)
		}
	}
	var made apiKey
	do("", map[string]string{"id": org, "name": org, "plan": "starter"}, nil)
	do("/"+org+"/keys", map[string]any{"environment": "sandbox", "scopes": []string{"manage"}}, &made)

	asked := 0
	ask := func(p *process) (left int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+p.address+"/api/v1/plan", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+made.Key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		asked++
		if left, err = strconv.Atoi(resp.Header.Get("X-RateLimit-Remaining")); err != nil {
			t.Fatalf("%s: %v", resp.Status, err)
		}
		return left
	}
	begun := time.Now()
	over := func() bool { return time.Since(begun) > 50*time.Second } // the minute's end may have come between
	// knows asks a process until it has heard of all that was asked anywhere.
	knows := func(p *process) bool {
		t.Helper()
		since := time.Now()
		for ; asked < most && !over(); <-time.After(500 * time.Millisecond) {
			if left := ask(p); left == most-asked {
				t.Logf("%v later %d are left", time.Since(since), left)
				return true
			} else if left < most-asked {
				t.Fatalf("%d are left after %d", left, asked)
			}
		}
		if !over() {
			t.Fatalf("after %d requests, the last of them %v long, not all are known", asked, time.Since(since))
		}
		return false
	}
	for range 20 {
		ask(one)
	}
	if !knows(two) || !knows(one) {
		return false
	}
	two.kill()
	two.start()
	if !knows(two) {
		return false
	}
	eventually(t, patience, func() error {
		var used struct{ Months []usageRow }
		if _, err := admin.call(t.Context(), "GET", "/admin/v1/orgs/"+org+"/usage", nil, &used); err != nil {
			return err
		}
		sum := 0
		for _, m := range used.Months {
			sum += int(m.Requests)
		}
		if sum != asked {
			return fmt.Errorf("%d requests of %d are counted", sum, asked)
		}
		return nil
	})
	return true
}
