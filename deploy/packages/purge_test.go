package packages_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A purge takes what is the package's, and not the configuration and the data of an agent that
// was installed from a bundle; removal does not stop that one.
func TestPurgeLeavesABundlesAgent(t *testing.T) {
	shell := tool(t, "sh", "dash")
	const (
		unit, record = "/etc/systemd/system/crossdock-agent.service", "/etc/crossdock-agent/installed.json"
		config, data = "/etc/crossdock-agent/agent.yaml", "/var/lib/crossdock-agent/journal/1"
		wants        = "/etc/systemd/system/multi-user.target.wants/crossdock-agent.service"
	)
	for _, tt := range []struct {
		name    string
		also    map[string]string
		stopped bool
		stays   bool
	}{
		{"the package's alone", nil, true, false},
		{"a bundle's service", map[string]string{unit: "[Service]\nExecStart=/usr/local/bin/crossdock-agent run\n"}, false, true},
		{"a bundle's record", map[string]string{record: "{}"}, true, true},
		{"the package's with the administrator's own unit", map[string]string{unit: "[Service]\nExecStart=/usr/bin/crossdock-agent run\n"}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			put := func(path, text string, mode os.FileMode) {
				file := filepath.Join(root, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), mode)); err != nil {
					t.Fatal(err)
				}
			}
			put("/bin/systemctl", "#!/bin/sh\necho \"$@\" >>"+root+"/calls\n", 0o755)
			put("/run/systemd/system/.here", "", 0o644)
			for path, text := range map[string]string{config: "mine", data: "kept", wants: ""} {
				put(path, text, 0o640)
			}
			for path, text := range tt.also {
				put(path, text, 0o644)
			}

			maintain(t, shell, root, "deb-prerm", "remove")
			maintain(t, shell, root, "deb-postrm", "remove")
			if err := os.Remove(filepath.Join(root, config)); err != nil { // as dpkg does with its own
				t.Fatal(err)
			}
			said := maintain(t, shell, root, "deb-postrm", "purge")
			if stays := strings.Contains(said, "crossdock-agent stay"); stays != tt.stays {
				t.Errorf("it says %q", said)
			}
			for path, want := range map[string]string{config: "mine", data: "kept", wants: ""} {
				text, err := os.ReadFile(filepath.Join(root, path))
				if got := err == nil && string(text) == want; got != tt.stays {
					t.Errorf("%s holds %q, %v", path, text, err)
				}
			}
			if left, err := filepath.Glob(filepath.Join(root, config+".*")); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
			calls, err := os.ReadFile(filepath.Join(root, "calls"))
			if stopped := strings.Contains(string(calls), "stop crossdock-agent.service"); err != nil || stopped != tt.stopped {
				t.Errorf("systemctl was told %q, %v", calls, err)
			}
		})
	}
}

// maintain runs a script of the package as dpkg does, in a folder that stands for the machine's
// root.
func maintain(t *testing.T, shell, root, name, what string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("scripts", name))
	if err != nil {
		t.Fatal(err)
	}
	here := strings.ReplaceAll(string(text), "@NAME@", "crossdock-agent")
	for _, top := range []string{"/etc/", "/var/lib/", "/run/"} {
		here = strings.ReplaceAll(here, " "+top, " "+root+top)
		if strings.Count(here, top) != strings.Count(here, root+top) {
			t.Fatalf("%s names %s in a way that would reach this machine's own", name, top)
		}
	}
	cmd := exec.Command(shell, "-c", here, name, what)
	cmd.Env = []string{"PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")}
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, what, err, said)
	}
	return string(said)
}
