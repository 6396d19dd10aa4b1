package control_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/pkg/control"
	"sluice/pkg/endpoint"
	"sluice/pkg/eventlog/eventlogtest"
)

// A provider's secrets are good one beside another for as long as was said, over the
// log and a snapshot; one org's are never another's, and none lies in either as it is.
func TestProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		path := filepath.Join(t.TempDir(), "snapshot")
		c, err := withKeys(t, log, path, oldKey)
		if err != nil {
			t.Fatal(err)
		}
		for _, org := range []string{"org_a", "org_b"} {
			do(t, c, &control.CreateOrg{ID: org, Plan: control.Free})
		}
		set := func(org, provider, secret string, overlap time.Duration) *control.SetProvider {
			return &control.SetProvider{Org: org, Provider: provider, NewSecret: control.NewSecret{Secret: endpoint.Secret(secret), Overlap: int64(overlap / time.Second)}}
		}
		good := func(c *control.Control, org, provider string, want ...string) {
			t.Helper()
			var got []string
			for _, s := range c.ProviderSecrets(org, provider, time.Now()) {
				got = append(got, string(s))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s of %s: %q, want %q", provider, org, got, want)
			}
		}
		refused(t, c, set("org_nobody", "p", "canary-0", 0), control.ErrNotFound)
		refused(t, c, &control.RemoveProvider{Org: "org_a", Provider: "p"}, control.ErrNotFound)
		good(c, "org_a", "p")
		do(t, c, set("org_a", "p", "canary-1", time.Hour))
		do(t, c, set("org_a", "q", "canary-q", time.Hour))
		do(t, c, set("org_b", "p", "canary-b", time.Hour))
		do(t, c, set("org_a", "p", "canary-2", time.Hour))
		good(c, "org_a", "p", "canary-2", "canary-1")
		do(t, c, set("org_a", "p", "canary-2", time.Hour)) // as whoever didn't get the answer does
		good(c, "org_a", "p", "canary-2", "canary-1")
		do(t, c, set("org_a", "p", "canary-3", 30*time.Minute))
		good(c, "org_a", "p", "canary-3", "canary-2", "canary-1")
		do(t, c, set("org_a", "p", "canary-4", 30*time.Minute))
		refused(t, c, set("org_a", "p", "canary-5", 30*time.Minute), control.ErrLimit)
		c.Save()
		for _, path := range []string{path, ""} {
			again, err := withKeys(t, log, path, oldKey)
			if err != nil {
				t.Fatal(err)
			}
			good(again, "org_a", "p", "canary-4", "canary-3", "canary-2", "canary-1")
			good(again, "org_a", "q", "canary-q")
			good(again, "org_b", "p", "canary-b")
			sameState(t, c, again)
			again.Close()
		}
		time.Sleep(30 * time.Minute) // no longer than the newest overlap says, though an older one said more
		good(c, "org_a", "p", "canary-4")
		do(t, c, set("org_a", "p", "canary-5", time.Hour))
		do(t, c, set("org_a", "p", "canary-5", 0)) // what leaked is no good from now on
		good(c, "org_a", "p", "canary-5")
		if list := c.Providers("org_a"); len(list) != 2 || list[0].Name != "p" || list[1].Name != "q" || !list[0].UpdatedAt.Equal(time.Now()) {
			t.Errorf("listed: %+v", list)
		}
		do(t, c, &control.RemoveProvider{Org: "org_a", Provider: "p"})
		good(c, "org_a", "p")
		good(c, "org_a", "q", "canary-q")
		do(t, c, set("org_a", "p", "canary-6", time.Hour))
		good(c, "org_a", "p", "canary-6")
		do(t, c, &control.DeleteOrg{Org: "org_a"})
		good(c, "org_a", "p")
		good(c, "org_b", "p", "canary-b")
		sealedIn(t, log, c, "canary")
	})
}

// Of two who set a secret at once, one is told that the other was first; and what was
// sealed for one provider can't be another's.
func TestProvidersApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := eventlogtest.Mem(t, topics...)
		c := open(t, log)
		do(t, c, &control.CreateOrg{ID: "org_a", Plan: control.Free})
		do(t, c, &control.CreateOrg{ID: "org_b", Plan: control.Free})
		do(t, c, &control.SetProvider{Org: "org_a", Provider: "p", NewSecret: control.NewSecret{Secret: endpoint.Secret("theirs")}})
		text := everything(t, log)
		sealed := text[strings.LastIndex(text, `"sealed":"`)+len(`"sealed":"`):]
		sealed = sealed[:strings.IndexByte(sealed, '"')]
		for _, moved := range []string{`"org":"org_b","provider":"p"`, `"org":"org_a","provider":"q"`} {
			put(t, log, `{"v":1,"op":"provider.set","id":"cmd_moved","at":"2026-11-22T03:00:00Z","do":{`+moved+`,"sealed":"`+sealed+`","version":1,"overlap":0}}`)
		}
		put(t, log, `{"v":1,"op":"provider.set","id":"cmd_again","at":"2026-11-22T03:00:00Z","do":{"org":"org_a","provider":"p","sealed":"`+sealed+`","version":1,"overlap":0}}`)
		if err := c.Fresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, b := c.Providers("org_a"), c.Providers("org_b"); len(a) != 1 || len(b) != 0 || c.Skipped() != 2 {
			t.Errorf("%d and %d providers, %d skipped", len(a), len(b), c.Skipped())
		}
	})
}
