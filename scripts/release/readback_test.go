package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pretended is a release with small files in place of the programs, for what looks at packages
// from outside.
func pretended(t *testing.T, p platform, version string) *release {
	t.Helper()
	r := &release{top: sources(t), out: t.TempDir(), stage: t.TempDir(), version: version, log: testLog{t}}
	r.epoch = time.Unix(1_700_000_000, 0).UTC()
	names, err := r.plugins()
	if err != nil {
		t.Fatal(err)
	}
	files := []string{p.exe("crossdock"), p.exe("crossdock-agent")}
	for _, name := range names {
		files = append(files, filepath.Join("plugins", p.exe(name)))
	}
	for _, name := range files {
		file := filepath.Join(r.bin(p), name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\necho "+name+" "+r.version+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

type testLog struct{ t *testing.T }

func (l testLog) Write(text []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(text)))
	return len(text), nil
}

func said(t *testing.T, name string, args ...string) string {
	t.Helper()
	text, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text)
	}
	return string(text)
}

// The rpm is read back with rpm; it is installed nowhere here.
func TestRPM(t *testing.T) {
	if _, err := exec.LookPath("rpm"); err != nil {
		missingTool(t, "rpm is missing: apt-get install rpm")
	}
	r := pretended(t, here, "v1.2.3")
	if err := r.packages(here); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.out, "crossdock-agent-1.2.3-1.x86_64.rpm")
	listed := said(t, "rpm", "-qp", "-l", file)
	for _, want := range []string{"/usr/bin/crossdock-agent", "/etc/crossdock-agent/agent.yaml", "/usr/lib/systemd/system/crossdock-agent.service",
		"/usr/lib/sysctl.d/50-crossdock-agent.conf", "/usr/lib/crossdock-agent/plugins/carrier-zone"} {
		if !strings.Contains(listed, want+"\n") {
			t.Errorf("no %s in\n%s", want, listed)
		}
	}
	scripts := said(t, "rpm", "-qp", "--scripts", file)
	for _, want := range []string{"postinstall scriptlet", "useradd --system", "preuninstall scriptlet", "disable --now crossdock-agent.service",
		"postuninstall scriptlet", "try-restart crossdock-agent.service"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("no %q in\n%s", want, scripts)
		}
	}
	if strings.Contains(scripts, "@NAME@") || strings.Contains(scripts, "systemctl start") || strings.Contains(scripts, "systemctl enable") {
		t.Errorf("a package enables and starts nothing, and its scripts have names:\n%s", scripts)
	}
	if got := said(t, "rpm", "-qp", "--qf", "%{BUILDHOST} %{LICENSE} %{ARCH}", file); got != "crossdock Apache-2.0 x86_64" {
		t.Errorf("got %q", got)
	}
	if got := said(t, "rpm", "-qp", "-c", file); got != "/etc/crossdock-agent/agent.yaml\n" {
		t.Errorf("configuration files: %q", got)
	}
	if got := said(t, "rpm", "-qp", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", file); !strings.Contains(got, "/etc/crossdock-agent/agent.yaml cn\n") {
		t.Errorf("a changed configuration would be written over:\n%s", got)
	}
}

// The installer for Windows is read back with msiinfo; it runs nowhere here.
func TestMSI(t *testing.T) {
	for _, tool := range []string{"wixl", "msiinfo"} {
		if _, err := exec.LookPath(tool); err != nil {
			missingTool(t, "%s is missing: apt-get install wixl msitools", tool)
		}
	}
	windows := platform{"windows", "amd64"}
	var texts [2]string
	var file string
	for i := range texts {
		nextTick()
		r := pretended(t, windows, "v1.2.3")
		if err := r.installer(t.Context(), windows); err != nil {
			t.Fatal(err)
		}
		file = filepath.Join(r.out, "crossdock-agent-1.2.3-windows-amd64.msi")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	if texts[0] != texts[1] {
		t.Error("two runs made different installers")
	}
	table := func(name string) string { return said(t, "msiinfo", "export", file, name) }
	for _, want := range []struct{ table, line string }{
		{"ServiceInstall", "AgentService\tcrossdock-agent\tCrossdock agent\t16\t2\t"}, // a process of its own, started with the machine
		{"ServiceControl", "AgentControl\tcrossdock-agent\t162\t"},                    // stopped by both, removed at the end
		{"Upgrade", "{6C0B6D0E-6E1B-4C0B-9B57-5B6C0D1E2F3A}"},
		{"Property", "ProductVersion\t1.2.3"},
		{"CustomAction", `enroll --token-file "[TOKENFILE]" --control-plane "[CONTROLPLANE]"`},
		{"InstallExecuteSequence", "Enrol\tTOKENFILE AND NOT CONTROLPLANE AND NOT REMOVE\t"},
		{"File", "carrier_zone\tPlugins\t"},
	} {
		if got := table(want.table); !strings.Contains(got, want.line) {
			t.Errorf("table %s has no %q:\n%s", want.table, want.line, got)
		}
	}
	at := sequence(table("InstallExecuteSequence"))
	for _, pair := range [][2]string{{"RemoveExistingProducts", "InstallFiles"}, {"InstallFiles", "Enrol"}, {"Enrol", "Start"}, {"InstallServices", "Start"}, {"Start", "InstallFinalize"}} {
		if at[pair[0]] == 0 || at[pair[0]] >= at[pair[1]] {
			t.Errorf("%s does not come before %s:\n%s", pair[0], pair[1], table("InstallExecuteSequence"))
		}
	}
}

// sequence is when each action runs.
func sequence(table string) map[string]int {
	at := map[string]int{}
	for line := range strings.Lines(table) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if n, err := strconv.Atoi(fields[len(fields)-1]); err == nil {
			at[fields[0]] = n
		}
	}
	return at
}
