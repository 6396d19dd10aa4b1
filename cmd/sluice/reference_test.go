package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write docs/configuration.md and testdata/bad_input.txt anew")

// TestReference holds docs/configuration.md to the flags there are.
func TestReference(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	want := reference(t)
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/configuration.md is stale: go test ./cmd/sluice -run TestReference -update")
	}
}

// reference writes the page: a table for each group of settings, then one for
// what other commands take from the environment.
func reference(t *testing.T) []byte {
	parser := newParser(t.Context(), new(cli), std{Out: new(bytes.Buffer), Err: new(bytes.Buffer)}, func(int) {})
	var b bytes.Buffer
	b.WriteString(`# Configuration

Made from the flags of the command: ` + "`go test ./cmd/sluice -run TestReference -update`" + `.

` + "`sluice serve`" + ` takes each setting from the first of these that has it:

    --drain-timeout 25s   →   SLUICE_DRAIN_TIMEOUT=25s   →   drain-timeout: 25s   →   its default
      command line              environment                    file of --config

A setting's name, as below, is that of its flag and of its key in the file. Keys of the file don't nest; lists may be YAML lists, or one text with commas. An unknown key or a bad value stops the start with one line.
` + "`sluice config check`" + ` takes the same settings, reads the files that they name, and prints what is in force, and from where.
SIGHUP reads --tls-cert and --tls-key again; everything else needs a new start.
`)
	commands := make(map[string]*kong.Node)
	for _, leaf := range parser.Model.Leaves(true) {
		commands[leaf.FullPath()] = leaf
	}
	serve := commands["sluice serve"]
	var group string
	section := func(title string) {
		if title != group {
			group = title
			fmt.Fprintf(&b, "\n## %s\n\n| setting | environment | value | default | what it does |\n|---|---|---|---|---|\n", strings.TrimSuffix(title, ":"))
		}
	}
	for _, f := range serve.Flags {
		title := "The config file"
		if f.Group != nil {
			title = f.Group.Title
		}
		section(title)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Name, environment(f), valueOf(t, f), defaultOf(f), helpOf(f))
	}
	b.WriteString(`
## Other commands

They don't read the config file. These flags of theirs can stand in the environment, too; ` + "`sluice COMMAND --help`" + ` has all.

| flag | environment | commands | value | default | what it does |
|---|---|---|---|---|---|
`)
	users := make(map[string][]string) // commands, by what their rows have in common
	for name, leaf := range commands {
		if name == "sluice serve" || name == "sluice config check" {
			continue
		}
		for _, f := range leaf.Flags {
			if len(f.Envs) > 0 {
				row := fmt.Sprintf("| `--%s` | %s | \x00 | %s | %s | %s |\n", f.Name, environment(f), valueOf(t, f), defaultOf(f), helpOf(f))
				users[row] = append(users[row], "`"+strings.TrimPrefix(name, "sluice ")+"`")
			}
		}
	}
	for _, row := range slices.Sorted(maps.Keys(users)) {
		slices.Sort(users[row])
		b.WriteString(strings.Replace(row, "\x00", strings.Join(users[row], ", "), 1))
	}
	return b.Bytes()
}

func environment(f *kong.Flag) string {
	if len(f.Envs) == 0 {
		return ""
	}
	return "`" + strings.Join(f.Envs, "`, `") + "`"
}

func defaultOf(f *kong.Flag) string {
	switch {
	case f.HasDefault:
		return "`" + f.Default + "`"
	case f.Target.Kind() == reflect.Bool, f.Target.Type() == reflect.TypeFor[prefixes]():
		return "`false`"
	}
	return ""
}

// helpOf leaves out of the help what stands in a column of its own.
func helpOf(f *kong.Flag) string {
	help := strings.TrimSuffix(f.Help, " Default: "+f.Default+".")
	return strings.ReplaceAll(help, "|", `\|`)
}

// valueOf says what kind of value the flag takes, and in which unit.
func valueOf(t *testing.T, f *kong.Flag) string {
	kinds := map[string]string{
		"HOST:PORT":   "host:port",
		"HOST:PORT,…": "host:port, with commas between",
		"TIME":        "time: a number and `ms`, `s`, `m` or `h`",
		"SIZE":        "size: a whole number and a unit, as in `500MB` or `10GiB`",
		"MECHANISM":   "`plain`, `scram-sha-256`, `scram-sha-512`",
		"ROLE,…":      "`all`, or of `api`, `gateway`, `dispatcher`, with commas between",
		"FILE":        "file",
		"ORIGIN,…":    "web origins, with commas between",
		"DIR":         "directory",
		"URL":         "URL",
		"IP[,IP]":     "one or two addresses, with a comma between",
	}
	switch f.Target.Type() {
	case reflect.TypeFor[time.Time]():
		return "time: RFC 3339"
	case reflect.TypeFor[smtpServer]():
		return "URL"
	case reflect.TypeFor[prefixes]():
		return "`true`, `false`, or CIDR ranges with commas between"
	}
	if kind := kinds[f.PlaceHolder]; kind != "" {
		return kind
	}
	if f.Enum != "" {
		return "`" + strings.ReplaceAll(f.Enum, ",", "`, `") + "`"
	}
	switch f.Target.Kind() {
	case reflect.Bool:
		return "`true`, `false`"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Slice:
		return "text, with commas between"
	case reflect.String:
		return "text"
	}
	t.Errorf("say what kind of value --%s (%s) takes", f.Name, f.Target.Type())
	return ""
}
