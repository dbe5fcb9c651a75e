package pluginhost

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"runtime"
	"time"

	goplugin "github.com/hashicorp/go-plugin"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Spec is a plugin as it should run.
type Spec struct {
	Name    string // of this plugin at this site
	Kind    string
	Program string // name of a file in Config.Programs
	SHA256  string // of that file, in hexadecimal

	Settings map[string]string
	Secrets  map[string]string // setting to the reference of the secret that it holds, which is resolved at each start

	Versions map[string]uint64 // of secrets that can change in their place: another one is a reason for a new start

	CallTimeout time.Duration // zero: the host's
	Memory      int64         // bytes resident; zero: the host's
}

func (s Spec) clone() Spec {
	s.Settings, s.Secrets, s.Versions = maps.Clone(s.Settings), maps.Clone(s.Secrets), maps.Clone(s.Versions)
	return s
}

func (s Spec) same(other Spec) bool { return reflect.DeepEqual(s, other) }

// check says why a Spec can never run.
func (s Spec) check(kinds map[string]Kind) error {
	sum, err := hex.DecodeString(s.SHA256)
	switch {
	case s.SHA256 == "":
		return fmt.Errorf("plugin %s: policy has no SHA-256 of program %s for %s/%s: crossdock plugin verify prints it",
			s.Name, s.Program, runtime.GOOS, runtime.GOARCH)
	case err != nil || len(sum) != 32 || hex.EncodeToString(sum) != s.SHA256:
		return fmt.Errorf("plugin %s: %.80q is no SHA-256: write the 64 hexadecimal digits that sha256sum prints", s.Name, s.SHA256)
	case s.Program != filepath.Base(s.Program) || !filepath.IsLocal(s.Program) || s.Program == ".":
		return fmt.Errorf("plugin %s: program %q is not the name of a file: write it without a directory", s.Name, s.Program)
	case s.CallTimeout < 0 || s.Memory < 0:
		return fmt.Errorf("plugin %s: neither the call timeout nor the memory can be negative", s.Name)
	}
	if _, ok := kinds[s.Kind]; !ok {
		return fmt.Errorf("plugin %s: there is no kind %q of plugins", s.Name, s.Kind)
	}
	for name := range s.Secrets {
		if _, both := s.Settings[name]; both {
			return fmt.Errorf("plugin %s: %s is both a setting and a secret", s.Name, name)
		}
	}
	return nil
}

// Kind is a contract that plugins serve.
type Kind struct {
	Plugin goplugin.Plugin // a goplugin.GRPCPlugin
	// Begin configures what was dispensed, and asks what it is.
	Begin func(ctx context.Context, served any, s sdk.Settings) (*sdk.Description, error)
}

// Kinds are the contracts of the SDK.
func Kinds() map[string]Kind {
	return map[string]Kind{
		carrier.Kind: {&carrier.Plugin{}, begin(func(ctx context.Context, c carrier.Carrier) (*sdk.Description, error) {
			d, err := c.Describe(ctx)
			if err != nil {
				return nil, err
			}
			return &d.Description, nil
		})},
		tax.Kind: {&tax.Plugin{}, begin(func(ctx context.Context, e tax.Engine) (*sdk.Description, error) {
			d, err := e.Describe(ctx)
			if err != nil {
				return nil, err
			}
			return &d.Description, nil
		})},
	}
}

func begin[T interface {
	Configure(context.Context, sdk.Settings) error
}](describe func(context.Context, T) (*sdk.Description, error)) func(context.Context, any, sdk.Settings) (*sdk.Description, error) {
	return func(ctx context.Context, served any, s sdk.Settings) (*sdk.Description, error) {
		t := served.(T)
		if err := t.Configure(ctx, s); err != nil {
			return nil, fmt.Errorf("configure: %w", err)
		}
		d, err := describe(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("describe: %w", err)
		}
		return d, nil
	}
}

// Carrier gives a carrier; see Served.
func (h *Host) Carrier(name string) (carrier.Carrier, error) {
	return as[carrier.Carrier](h, carrier.Kind, name)
}

// Tax gives a tax engine; see Served.
func (h *Host) Tax(name string) (tax.Engine, error) { return as[tax.Engine](h, tax.Kind, name) }

func as[T any](h *Host, kind, name string) (t T, err error) {
	served, err := h.Served(kind, name)
	if err != nil {
		return t, err
	}
	return served.(T), nil
}
