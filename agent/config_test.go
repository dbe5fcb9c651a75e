package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/settings"
)

func readConfig(t *testing.T, text string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadConfig(path)
}

const reach = "controlplane: {addresses: [\"cp.example.com:7443\"]}\n"

func TestReadConfig(t *testing.T) {
	cfg, err := readConfig(t, reach+"data: /srv/agent\njournal: {quota: 2GB, segment: 128 KB, retain: 36h}\n")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Journal != (Journal{Quota: 2 << 30, Segment: 128 << 10, Retain: 36 * time.Hour}) {
		t.Errorf("journal %+v", cfg.Journal)
	}
	if cfg.Secrets != filepath.Join("/srv/agent", "secrets") || cfg.Intake.Listen != "127.0.0.1:7080" || cfg.ControlPlane.Transport != "auto" {
		t.Errorf("what the file leaves out: %+v", cfg)
	}
}

func TestReadConfigRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "controlplane.addresses"},
		{"unknown key", reach + "intake:\n  lisen: 127.0.0.1:7080\n", "[3:3]"},
		{"twice", reach + "data: a\ndata: b\n", "data"},
		{"size", reach + "journal: {quota: plenty}\n", "512MB"},
		{"negative size", reach + "journal: {quota: -1GB}\n", "size"},
		{"size beyond all", reach + "journal: {quota: 99999999999TB}\n", "size"},
		{"small", reach + "journal: {quota: 1KB}\n", "at least 1MB"},
		{"address", "controlplane: {addresses: [cp]}\n", "host:port"},
		{"port of the control plane", "controlplane: {addresses: [\"cp.example.com:99999\"]}\n", "controlplane.addresses: \"cp.example.com:99999\""},
		{"port of the intake", reach + "intake: {listen: \"127.0.0.1:99999\"}\n", "intake.listen: \"127.0.0.1:99999\""},
		{"port of ops", reach + "ops: {listen: \"127.0.0.1:99999\"}\n", "ops.listen: \"127.0.0.1:99999\""},
		{"transport", "controlplane: {addresses: [\"a:1\"], transport: carrier-pigeon}\n", "auto, quic or tcp"},
		{"open intake", reach + "intake: {listen: \"0.0.0.0:7080\"}\n", "intake.certificate"},
		{"intake of all interfaces", reach + "intake: {listen: \":7080\"}\n", "intake.certificate"},
		{"half a certificate", reach + "intake: {certificate: a.pem}\n", "go together"},
		{"open ops", reach + "ops: {listen: \"0.0.0.0:7090\"}\n", "ops.listen"},
		{"proxy", proxied("proxy.example.com", ""), "is not an address"},
		{"proxy that is no proxy", proxied("ftp://proxy.example.com:1", ""), "is not an address"},
		{"proxy with a password", proxied("http://me:hunter2@proxy.example.com:1", ""), "it holds a password"},
		{"password written out", proxied("http://me@proxy.example.com:1", "hunter2"), "looks like the password itself"},
		{"password without a user", proxied("http://proxy.example.com:1", "file:p"), "http://user@host:port"},
		{"password without a proxy", proxied("", "file:p"), "it is of no use"},
		{"level", reach + "log: {level: loud}\n", "log.level"},
		{"format", reach + "log: {format: xml}\n", "neither text nor json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := readConfig(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want something about %q", err, tt.want)
			}
		})
	}
	all, err := readConfig(t, "controlplane: {addresses: [cp]}\nlog: {level: loud, format: xml}\n")
	if err == nil || strings.Count(err.Error(), "\n") < 2 {
		t.Errorf("not everything that is wrong is said: %v (%+v)", err, all.Log)
	}
}

func proxied(proxy, password string) string {
	return fmt.Sprintf("controlplane: {addresses: [\"cp.example.com:7443\"], proxy: %q, proxyPassword: %q}\n", proxy, password)
}

func TestPasswordOfTheProxy(t *testing.T) {
	cfg, err := readConfig(t, proxied("http://me@proxy.example.com:1", "file:p"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Secrets = t.TempDir()
	proxy, err := ProxyOf(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proxy(nil); err == nil || !strings.Contains(err.Error(), "controlplane.proxyPassword") {
		t.Errorf("without a password: %v", err)
	}
	for _, word := range []string{"first", "second"} {
		if err := os.WriteFile(filepath.Join(cfg.Secrets, "p"), []byte(word+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := proxy(nil); err != nil || got.String() != "http://me:"+word+"@proxy.example.com:1" {
			t.Errorf("the way goes by %v, %v", got, err)
		}
	}
}

func TestBytes(t *testing.T) {
	for size, want := range map[Bytes]string{0: "0", 1: "1", 1 << 10: "1KB", 10 << 30: "10GB", 1536 << 20: "1536MB", 3 << 40: "3TB"} {
		var again Bytes
		if err := again.UnmarshalYAML([]byte(want)); err != nil || again != size || size.String() != want {
			t.Errorf("%d is written %s, want %s, and read as %d, %v", size, size, want, again, err)
		}
	}
}

// A directory that is named beside the file has secrets of its own; those that are named there
// too are meant.
func TestSecretsOfAnotherDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(reach+"data: /a\nsecrets: /s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for variables, want := range map[string]string{
		"": "/s", "CROSSDOCK_AGENT_DATA=/b": "/b/secrets", "CROSSDOCK_AGENT_DATA=/b CROSSDOCK_AGENT_SECRETS=/c": "/c", "CROSSDOCK_AGENT_SECRETS=/c": "/c",
	} {
		cfg, values, err := Read(settings.Sources{File: path, Prefix: VariablePrefix, Environ: func() []string { return strings.Fields(variables) }})
		if err == nil {
			err = cfg.Validate()
		}
		if err != nil || cfg.Secrets != filepath.FromSlash(want) {
			t.Errorf("%s: secrets are in %s, want %s, %v", variables, cfg.Secrets, want, err)
		}
		if got := values.Origin("secrets").String(); strings.HasSuffix(want, "/secrets") && got != "default" {
			t.Errorf("%s: they are of %s", variables, got)
		}
	}
}

// FuzzReadConfig: whatever stands in the file, it is read or refused with the file's name,
// and nothing that is read listens to other machines in the clear.
func FuzzReadConfig(f *testing.F) {
	f.Add(reach + "journal: {quota: 2GB, segment: 128 KB, retain: 36h}\n")
	f.Add("&a [*a]")
	f.Add(reach + "intake: {listen: \"[::1]:1\", certificate: a, key: b}\n")
	f.Add("? - :")
	f.Add(reach + "ops: {listen: \"0.0.0.0:1\"}\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := ReadConfig(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if !loopback(cfg.Ops.Listen) || !loopback(cfg.Intake.Listen) && cfg.Intake.Certificate == "" {
			t.Fatalf("%q listens at %s and %s", text, cfg.Ops.Listen, cfg.Intake.Listen)
		}
	})
}
