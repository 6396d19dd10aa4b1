package main

import (
	"fmt"
	"runtime/debug"
)

type versionCmd struct{}

func (versionCmd) Run(s std) error {
	fmt.Fprintln(s.Out, buildVersion())
	return nil
}

// version is that of the module, for User-Agent; empty where it has none.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return ""
	}
	return info.Main.Version
}

// buildVersion names the source and the compiler that this binary is made of.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "sluice (built without module information)"
	}
	version, revision, when, changed := info.Main.Version, "", "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.time":
			when = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", with changes"
		}
	}
	if version == "" {
		version = "(devel)"
	}
	out := "sluice " + version
	if revision != "" {
		out += fmt.Sprintf(" (commit %s of %s%s)", revision, when, changed)
	}
	return out + ", " + info.GoVersion
}
