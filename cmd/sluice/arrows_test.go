package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dialects "sluice/pkg/dialect/all"
)

// The arrows of the tree. Each rule names who it binds, what may not be
// imported, and why; the test prints the reason of a rule that is broken.
//
//	cmd → gateway | dispatcher | replay → pkg/dialect, pkg/eventlog, pkg/control → nouns → pkg/event
var arrows = []struct {
	from   string // packages bound: a path below the module, "/..." for all below it
	except []string
	never  []string
	why    string
}{
	{"pkg/event", nil, []string{"sluice/..."}, "event is the ground: it imports nothing of ours"},
	{"pkg/datadir", nil, []string{"sluice/..."}, "files and their directory know nothing of what is in them"},
	{"pkg/freeport", nil, []string{"sluice/..."}, "ports are the system's: it imports nothing of ours"},
	{"pkg/plan", nil, []string{"sluice/..."}, "plan is a table: it imports nothing of ours"},
	{"pkg/key", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/eventlog/...", "sluice/pkg/control/...", "sluice/pkg/dialect/...", "sluice/pkg/endpoint/...", "sluice/pkg/delivery/..."}, "a noun stands on event alone"},
	{"pkg/endpoint", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/eventlog/...", "sluice/pkg/control/...", "sluice/pkg/dialect/...", "sluice/pkg/delivery/..."}, "a noun stands on event alone"},
	{"pkg/filter", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/eventlog/...", "sluice/pkg/control/...", "sluice/pkg/dialect/...", "sluice/pkg/endpoint/...", "sluice/pkg/delivery/..."}, "a filter knows data, and not whose it is"},
	{"pkg/delivery", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/eventlog/...", "sluice/pkg/control/...", "sluice/pkg/dialect/..."}, "a noun stands on nouns"},
	{"pkg/eventlog/...", nil, []string{"sluice/pkg/event/...", "sluice/pkg/key/...", "sluice/pkg/endpoint/...", "sluice/pkg/delivery/...", "sluice/pkg/control/...", "sluice/pkg/dialect/...", "sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/..."}, "the log keeps bytes and knows nothing of what they say"},
	{"pkg/control/...", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/dialect/...", "sluice/pkg/delivery/..."}, "control is state under everything that serves"},
	{"pkg/usage", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/dialect/...", "sluice/pkg/control/...", "sluice/pkg/endpoint/...", "sluice/pkg/delivery/..."}, "usage is numbers by org, under everything that counts"},
	{"pkg/notice/...", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/dialect/...", "sluice/pkg/delivery/..."}, "notices are what control and the lanes say, under both that serve"},
	{"...", []string{"pkg/notice/smtp"}, []string{"github.com/emersion/..."}, "only pkg/notice/smtp knows how mail is sent"},
	{"pkg/dialect/...", []string{"pkg/dialect/all"}, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/eventlog/...", "sluice/pkg/control/..."}, "a dialect is pure: no log, no state, no dialling"},
	{"pkg/dialect/...", []string{"pkg/dialect/dialecttest"}, []string{"net", "net/http", "os", "github.com/valyala/fasthttp/..."}, "a dialect is pure: it does no I/O"},
	{"replay/...", nil, []string{"sluice/gateway/...", "sluice/dispatcher/..."}, "replay reads the past for both and knows neither"},
	{"gateway/...", nil, []string{"sluice/dispatcher/..."}, "gateway and dispatcher meet in the log only"},
	{"dispatcher/...", nil, []string{"sluice/gateway/..."}, "gateway and dispatcher meet in the log only"},
	{"pkg/attempts/...", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/dialect/..."}, "attempts is a view of the log, under whoever shows it"},
	{"...", []string{"pkg/eventlog/...", "pkg/attempts/index", "examples/..."}, []string{"github.com/cockroachdb/pebble/..."}, "only a log and an index know what is below them"},
	{"...", []string{"pkg/attempts/postgres"}, []string{"github.com/jackc/..."}, "only one store knows that it is PostgreSQL"},
	{"...", []string{"pkg/eventlog/...", "examples/..."}, []string{"github.com/twmb/franz-go/..."}, "only pkg/eventlog knows what is below the log"},
	{"...", []string{"pkg/dialect/all"}, dialectFolders(), "a dialect's name stands in its folder and in the list of dialects"},
	{"...", []string{"pkg/dialect/all", "cmd/sluice", "bench/...", "loadtest/..."}, []string{"sluice/pkg/dialect/all"}, "who needs the dialects is handed them"},
	{"...", []string{"cmd/sluice", "bench/...", "loadtest/report"}, []string{"sluice/bench/..."}, "the harnesses hang below the command, and below the page of what they measured"},
	{"...", []string{"cmd/sluice", "loadtest/..."}, []string{"sluice/loadtest/..."}, "the harnesses hang below the command alone"},
	{"loadtest/...", nil, []string{"sluice/gateway/...", "sluice/dispatcher/...", "sluice/replay/...", "sluice/pkg/eventlog/...", "sluice/pkg/control/..."}, "the load test comes in at the front door"},
	{"loadtest/ledger/...", nil, []string{"sluice/..."}, "the ledger judges the product and shares no code with it"},
	{"...", nil, []string{"testing", "go.uber.org/goleak", "github.com/anishathalye/porcupine", "github.com/coder/websocket/...", "github.com/santhosh-tekuri/...", "github.com/stripe/...", "github.com/testcontainers/..."}, "what only tests need stays out of the binary"},
}

// testSupport are packages that exist for tests; the last rule isn't for them.
var testSupport = []string{"pkg/eventlog/eventlogtest", "pkg/attempts/attemptstest", "pkg/dialect/dialecttest", "pkg/dialect/openapi/openapitest"}

func TestArrows(t *testing.T) {
	for _, p := range listPackages(t) {
		from := strings.TrimPrefix(p.ImportPath, "sluice/")
		for _, rule := range arrows {
			if !within(from, rule.from) || withinAny(from, rule.except) || (rule.never[0] == "testing" && withinAny(from, testSupport)) {
				continue
			}
			for _, imp := range p.Imports {
				if withinAny(imp, rule.never) {
					t.Errorf("%s imports %s: %s", from, imp, rule.why)
				}
			}
		}
	}
}

func dialectFolders() (all []string) {
	for _, d := range dialects.Dialects {
		all = append(all, "sluice/pkg/dialect/"+d.Name+"/...")
	}
	return all
}

// TestDialectNames holds that no package names a dialect, in whatever way.
func TestDialectNames(t *testing.T) {
	var words, folders []string
	for _, d := range dialects.Dialects {
		words = append(words, regexp.QuoteMeta(d.Name))
		folders = append(folders, "pkg/dialect/"+d.Name)
	}
	names := regexp.MustCompile("(?i)" + strings.Join(words, "|"))
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			switch {
			case rel != "." && strings.HasPrefix(d.Name(), "."), slices.Contains(folders, rel), rel == "pkg/dialect/all", rel == "bench", rel == "loadtest":
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(rel, "cmd/sluice/demo") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			// A doc comment may cite the document that a rule comes from.
			if code, _, _ := strings.Cut(line, "//"); names.MatchString(code) {
				t.Errorf("%s:%d names a dialect: %s", rel, i+1, strings.TrimSpace(line))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func within(path, pattern string) bool {
	if pattern == "..." {
		return true
	}
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == below || strings.HasPrefix(path, below+"/")
	}
	return path == pattern
}

func withinAny(path string, patterns []string) bool {
	for _, p := range patterns {
		if within(path, p) {
			return true
		}
	}
	return false
}
