package controlplane

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/pki"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "crossdock.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigIsReadOverTheDefaults(t *testing.T) {
	got, err := LoadConfig(writeConfig(t, `
data: /srv/crossdock
approvals: single
sync: {names: [hub.example, 192.0.2.1]}
limits: {shutdown: 3s}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := NewConfig()
	want.Data, want.Approvals, want.Limits.Shutdown = "/srv/crossdock", model.ApprovalsSingle, 3*time.Second
	want.Sync.Names = []string{"hub.example", "192.0.2.1"}
	if got.Data != want.Data || got.Approvals != want.Approvals || got.Limits != want.Limits || got.API != want.API ||
		got.Sync.Listen != ":7443" || len(got.Sync.Names) != 2 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if _, err := LoadConfig(writeConfig(t, "  \n")); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestConfigRefusesWhatItDoesNotKnow(t *testing.T) {
	for text, want := range map[string]string{
		"data: /x\nsink: {}\n":               "sink",
		"sync:\n  listn: ':7443'\n":          "[2:3]",
		"limits: {shutdown: soon}\n":         "soon",
		"api: {listen: a}\napi: {listen: b}": "api",
		"- a list\n":                         "",
	} {
		_, err := LoadConfig(writeConfig(t, text))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, ErrConfig) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestConfigIsValidated(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"data":            func(c *Config) { c.Data = "" },
		"approvals":       func(c *Config) { c.Approvals = "triple" },
		"api.listen":      func(c *Config) { c.API.Listen = "7480" },
		"sync.listen":     func(c *Config) { c.Sync.Listen = "" },
		"ops.listen":      func(c *Config) { c.Ops.Listen = "127.0.0.1:99999" },
		"cluster.listen":  func(c *Config) { c.Cluster.Listen = ":99999" },
		"sync.advertise":  func(c *Config) { c.Sync.Advertise = []string{"hub.example:99999"} },
		"cluster.address": func(c *Config) { c.Cluster.Listen, c.Cluster.Address = ":7470", "hub.example:99999" },
		"sync.names":      func(c *Config) { c.Sync.Names = []string{"hub.example:7443"} },
		"mailboxBytes":    func(c *Config) { c.Limits.MailboxBytes = 0 },
		"shutdown":        func(c *Config) { c.Limits.Shutdown = 0 },
	} {
		config := NewConfig()
		change(&config)
		err := config.Validate()
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	config := NewConfig()
	if err := config.Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

func TestLocalURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:7480": "https://127.0.0.1:7480", "0.0.0.0:1": "https://127.0.0.1:1", "[::]:1": "https://127.0.0.1:1",
		"[::1]:1": "https://[::1]:1", "192.0.2.7:9": "https://192.0.2.7:9",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := localURL(tcp); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// A crash between the token's file and the cluster's first command must not lose the token.
func TestAdminTokenOfAnUnfinishedStartIsUsedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "admin.token")
	first, err := adminToken(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := adminToken(file)
	if err != nil || again != first || !strings.HasPrefix(first, "xdk_") {
		t.Errorf("first %q, again %q, %v", first, again, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("data: /x\nsync: {listen: ':1', names: [a]}\nlimits: {start: 1s}\n")
	f.Add("&a [*a]")
	f.Add("? - :")
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		config, err := LoadConfig(file)
		if err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", text, err)
		}
		if err := config.Validate(); err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzBackup: a file that is given as a backup is one, or is refused as none.
func FuzzBackup(f *testing.F) {
	good := func(header string, state string) []byte {
		text := binary.BigEndian.AppendUint32(bytes.Clone(backupMagic[:]), uint32(len(header)))
		text = append(append(text, header...), make([]byte, len(pki.Seal{}))...)
		return append(text, state...)
	}
	f.Add(good(`{"cluster":"c"}`, "state"), true)
	f.Add(good(`{"cluster":"c"}`, ""), true)
	f.Add(good(`{}`, "state"), true)
	f.Add(good(`{`, "state"), false)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, text []byte, sealed bool) {
		if sealed {
			sum := sha256.Sum256(text)
			text = append(bytes.Clone(text), sum[:]...)
		}
		file := filepath.Join(t.TempDir(), "backup")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := VerifyBackup(file)
		if err != nil && !errors.Is(err, ErrBackup) || err == nil && info.Cluster == "" {
			t.Fatalf("%q: %+v, %v", text, info, err)
		}
	})
}
