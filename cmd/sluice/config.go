package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// A setting's value is the first of these that is there:
//
//	--listen :8080   →   SLUICE_LISTEN=:8080   →   listen: :8080   →   its default
//	  command line          environment             config file

// BeforeResolve reads the config file, whether it was named on the command line
// or in the environment.
func (*settings) BeforeResolve(ctx *kong.Context) error {
	flags := ctx.Selected().Flags
	i := slices.IndexFunc(flags, func(f *kong.Flag) bool { return f.Name == "config" })
	path, _ := ctx.FlagValue(flags[i]).(string)
	if path == "" {
		return nil
	}
	file, err := readConfig(path)
	if err != nil {
		return err
	}
	if err := file.check(flags); err != nil {
		return err
	}
	ctx.AddResolver(kong.ResolverFunc(file.resolve))
	return nil
}

// configFile is a config file that has been read: text by key, as it would stand
// behind the flag of that name.
type configFile struct {
	path   string
	values map[string]string
}

func readConfig(path string) (*configFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w: name a file that can be read", err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		var at yaml.Error
		if errors.As(err, &at) {
			return nil, fmt.Errorf("--config: %s, line %d: %s: write one 'key: value' a line", path, at.GetToken().Position.Line, at.GetMessage())
		}
		return nil, fmt.Errorf("--config: %s: %w", path, err)
	}
	f := &configFile{path: path, values: make(map[string]string, len(raw))}
	for key, value := range raw {
		switch v := value.(type) {
		case nil:
			return nil, fmt.Errorf("--config: %s: key %q has no value: give it one, or take the line out", path, key)
		case map[string]any:
			return nil, fmt.Errorf("--config: %s: key %q holds other keys: keys don't nest, write one 'key: value' a line", path, key)
		case []any:
			var parts []string
			for _, part := range v {
				parts = append(parts, fmt.Sprint(part))
			}
			f.values[key] = strings.Join(parts, ",")
		default:
			f.values[key] = fmt.Sprint(v)
		}
	}
	return f, nil
}

// check refuses keys that are no flag's name: a misspelt one would otherwise be
// silently without effect.
func (f *configFile) check(flags []*kong.Flag) error {
	var known []string
	for _, flag := range flags {
		if flag.Name != "config" {
			known = append(known, flag.Name)
		}
	}
	slices.Sort(known)
	for _, key := range slices.Sorted(maps.Keys(f.values)) {
		if !slices.Contains(known, key) {
			return fmt.Errorf("--config: %s: unknown key %q: the keys are %s", f.path, key, strings.Join(known, ", "))
		}
	}
	return nil
}

// resolve gives a flag that isn't on the command line the file's value, unless
// the environment has one.
func (f *configFile) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	text, ok := f.values[flag.Name]
	if !ok || slices.ContainsFunc(flag.Envs, func(name string) bool { _, set := os.LookupEnv(name); return set }) {
		return nil, nil
	}
	// Tried here, where the file's name is known: the caller's error wouldn't say it.
	scan := kong.Scan().PushTyped(text, kong.FlagValueToken)
	if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, reflect.New(flag.Target.Type()).Elem()); err != nil {
		return nil, fmt.Errorf("%w (from key %q of %s)", err, flag.Name, f.path)
	}
	return text, nil
}
