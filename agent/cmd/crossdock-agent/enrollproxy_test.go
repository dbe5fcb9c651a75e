package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent"
)

// The proxy's password goes to a file of the secrets directory, which the configuration names;
// an enrolment that comes to nothing leaves both as they were, and one whose configuration is
// somebody's own leaves the password that was there.
func TestProxyPasswordIsKept(t *testing.T) {
	const proxy, wrong = "http://site:p%40ss@proxy.example.com:3128", "controlplane: {addresses: [\"hub.example.org:7443\"]}\n"
	for _, tt := range []struct {
		name, config, former string
		named                bool
	}{
		{"no file", "", "", true},
		{"the packages' file", "controlplane:\n  addresses: [crossdock.example.com:7443]\n  proxy: \"\"\n  proxyPassword: \"\" # of the user\n", "", true},
		{"a password of before", "", "old", true},
		{"somebody's own file", wrong, "", false},
		{"somebody's own file and password", wrong, "old", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			config, secret := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "data", "secrets", passwordFile)
			if tt.config != "" {
				write(t, config, tt.config)
			}
			if tt.former != "" {
				if err := os.MkdirAll(filepath.Dir(secret), 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, secret, tt.former)
			}
			var said strings.Builder
			p := &program{err: &said}
			p.commands()
			p.config = config // the flag, which commands sets to its default
			if err := p.flags.Set("data", filepath.Join(dir, "data")); err != nil {
				t.Fatal(err)
			}
			k := keepProxy(t, p, proxy)
			is(t, secret, "p@ss") // for the enrolment itself
			if err := k.undo(); err != nil {
				t.Fatal(err)
			}
			is(t, config, tt.config)
			is(t, secret, tt.former)
			if tt.former == "" && there(filepath.Join(dir, "data")) {
				t.Error("directories are left")
			}

			if err := keepProxy(t, p, proxy).done(); err != nil {
				t.Fatal(err)
			}
			if !tt.named {
				is(t, config, tt.config)
				is(t, secret, tt.former)
				if !strings.Contains(said.String(), "does not name the proxy of this enrolment") {
					t.Errorf("said %q", said.String())
				}
				return
			}
			is(t, secret, "p@ss")
			if got, err := agent.ReadUnchecked(config); err != nil || got.ControlPlane.Proxy != "http://site@proxy.example.com:3128" ||
				got.ControlPlane.ProxyPassword != "file:proxy.password" {
				t.Errorf("the configuration has %+v, %v", got.ControlPlane, err)
			}
		})
	}
}

// keepProxy is what enroll does before it uses the token.
func keepProxy(t *testing.T, p *program, proxy string) *keeper {
	t.Helper()
	cfg, file, password, err := p.configFor(enrolment{addresses: []string{"hub:7443"}, proxy: proxy})
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	k, err := p.keep(file, cfg, password)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Without --control-plane nothing is written, and the environment is not taken over.
func TestEnvironmentIsNotTakenOver(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://site:pass@proxy.example.com:3128")
	t.Setenv("https_proxy", "")
	config := filepath.Join(t.TempDir(), "agent.yaml")
	write(t, config, "controlplane: {addresses: [\"hub.example.org:7443\"]}\n")
	p := &program{err: os.Stderr}
	p.commands()
	p.config = config // the flag, which commands sets to its default
	cfg, _, password, err := p.configFor(enrolment{})
	if err == nil {
		err = cfg.Validate()
	}
	if err != nil || cfg.ControlPlane.Proxy != "" || password != "" {
		t.Errorf("%+v, %v", cfg.ControlPlane, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// is wants a text in a file, or no file.
func is(t *testing.T, path, want string) {
	t.Helper()
	if text, err := os.ReadFile(path); string(text) != want || want != "" && err != nil || want == "" && err == nil {
		t.Errorf("%s holds %q, %v; want %q", path, text, err, want)
	}
}
