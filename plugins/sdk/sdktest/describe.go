package sdktest

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// CheckDescription wants a description that a host can go by. The names are those of the
// contract's operations.
func CheckDescription(t testing.TB, d *sdk.Description, names []string) {
	t.Helper()
	if d.Name == "" || d.Version == "" {
		t.Errorf("describe: the name is %q and the version %q, want both", d.Name, d.Version)
	}
	seen := map[string]bool{}
	for _, o := range d.Operations {
		if !slices.Contains(names, o.Name) || seen[o.Name] {
			t.Errorf("describe: operation %q is unknown or there twice", o.Name)
		}
		seen[o.Name] = true
	}
	if len(seen) == 0 {
		t.Error("describe: there is no operation")
	}
	seen = map[string]bool{}
	for _, s := range d.Config {
		if s.Name == "" || s.Help == "" || seen[s.Name] {
			t.Errorf("describe: setting %q has no name or no help, or is there twice", s.Name)
		}
		seen[s.Name] = true
	}
}

// Can tells whether a description has an operation, and whether it buys.
func Can(d *sdk.Description, name string) (can, buys bool) {
	i := slices.IndexFunc(d.Operations, func(o sdk.Operation) bool { return o.Name == name })
	return i >= 0, i >= 0 && d.Operations[i].Buys
}

// CheckConfigure wants that a plugin does not do without a setting that it describes as
// required, and that it names it.
func CheckConfigure(t testing.TB, d *sdk.Description, good sdk.Settings, configure func(context.Context, sdk.Settings) error) {
	t.Helper()
	for _, s := range d.Config {
		if !s.Required {
			continue
		}
		if good[s.Name] == "" {
			t.Errorf("configure: the settings of the test lack %q, which is described as required", s.Name)
		}
		without := maps.Clone(good)
		delete(without, s.Name)
		FailsAt(t, "configure without "+s.Name, configure(t.Context(), without), s.Name)
	}
	known := map[string]bool{}
	for _, s := range d.Config {
		known[s.Name] = true
	}
	for name := range good {
		if !known[name] {
			t.Errorf("configure: setting %q is not described", name)
		}
	}
}

// CheckOperations calls every operation of a contract with something harmless: one that is
// described does something, one that is not answers class NotSupported.
func CheckOperations(t testing.TB, d *sdk.Description, calls map[string]func(context.Context) error) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		can, _ := Can(d, name)
		err := calls[name](t.Context())
		switch {
		case !can:
			Fails(t, name+", which is not described", err, sdk.NotSupported)
		case err == nil:
		case coded(t, name, err).Class == sdk.NotSupported:
			t.Errorf("%s is described, and answers: %v", name, err)
		}
	}
}
