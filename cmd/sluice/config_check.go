package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/alecthomas/kong"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Check the settings of sluice serve, and print them with where each comes from."`
}

// configCheckCmd reads settings as sluice serve would, and every file that they
// name, but starts nothing.
type configCheckCmd struct{ settings }

// Help is shown by sluice config check --help.
func (configCheckCmd) Help() string {
	return `Takes every flag of sluice serve, and reads the environment and the config file as that does. Prints
each setting that isn't empty, its value, and where it comes from; secrets are not shown. What is
wrong is said in one line, and the exit code is 1, or 2.

Example:

    sluice config check --config sluice.yaml`
}

func (c *configCheckCmd) Run(ctx *kong.Context, s std) error {
	if err := c.try(); err != nil {
		return err
	}
	rows := [][]string{{"SETTING", "VALUE", "FROM"}}
	for _, flag := range ctx.Selected().Flags {
		value := fmt.Sprint(flag.Target.Interface())
		if value == "" || value == "[]" {
			continue
		}
		if flag.Tag.Has("secret") {
			value = "(not shown)"
		}
		rows = append(rows, []string{flag.Name, value, source(ctx, flag)})
	}
	return printTable(s.Out, rows...)
}

// source says which of the places a setting's value comes from: the first that
// has one counts.
func source(ctx *kong.Context, flag *kong.Flag) string {
	named := func(resolved bool) bool {
		return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Flag == flag && p.Resolved == resolved })
	}
	if named(false) {
		return "command line"
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return "environment, " + name
		}
	}
	if named(true) {
		return "config file"
	}
	return "default"
}
