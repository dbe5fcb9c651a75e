package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// machine is a Debian in a folder. What runs in it runs in a chroot, as the real programs.
type machine struct {
	t    *testing.T
	root string
}

// debian gives a fresh machine. The first one is fetched from the mirror that this machine uses
// itself, and kept for the next runs.
func debian(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		missingTool(t, "packages are installed in a chroot, which only root can make")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		missingTool(t, "debootstrap is missing: apt-get install debootstrap")
	}
	kept := filepath.Join(sources(t), "run", "debian-bookworm")
	if _, err := os.Stat(kept); errors.Is(err, fs.ErrNotExist) {
		part := fmt.Sprintf("%s.%d", kept, os.Getpid())
		defer os.RemoveAll(part)
		t.Log("fetching a Debian into", kept)
		text, err := exec.Command("debootstrap", "--variant=minbase", "bookworm", part, mirror(t)).CombinedOutput()
		if err != nil {
			missingTool(t, "no Debian could be made: %v\n%s", err, last(text))
		}
		for _, dir := range []string{"var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"} {
			if err := os.RemoveAll(filepath.Join(part, dir)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(part, kept); err != nil {
			t.Fatal(err)
		}
	}
	m := &machine{t, filepath.Join(t.TempDir(), "machine")}
	said(t, "cp", "-a", kept, m.root)
	return m
}

// mirror is where this machine has its own packages from.
func mirror(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/etc/apt/sources.list*/*")
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`(?m)^[^#\n]*?(https?://\S+/debian)/?(?:\s|$)`)
	for _, list := range append(lists, "/etc/apt/sources.list") {
		if text, err := os.ReadFile(list); err == nil {
			if m := address.FindSubmatch(text); m != nil {
				return string(m[1])
			}
		}
	}
	return "http://deb.debian.org/debian"
}

func last(text []byte) []byte { return text[max(0, len(text)-2000):] }

// run runs a command in the machine.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	text, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return text
}

func (m *machine) try(args ...string) (said string, err error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
	cmd.Dir = "/"
	cmd.Path = "/usr/bin/env"
	cmd.Args = append([]string{"env"}, args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

func (m *machine) at(path string) string { return filepath.Join(m.root, path) }

func (m *machine) write(path, text string, mode os.FileMode) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.at(path)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.at(path), []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	m.t.Helper()
	text, err := os.ReadFile(m.at(path))
	if err != nil {
		m.t.Error(err)
	}
	return string(text)
}

// has says which of some paths should be there, or not.
func (m *machine) has(want bool, paths ...string) {
	m.t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(m.at(path)); (err == nil) != want {
			m.t.Errorf("%s: there %v, want %v", path, err == nil, want)
		}
	}
}

// install installs packages from files of this machine.
func (m *machine) install(packages ...string) {
	m.t.Helper()
	args := []string{"dpkg", "--force-confdef", "--force-confold", "--install"} // what an unattended upgrade says
	for _, file := range packages {
		text, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write("/packages/"+filepath.Base(file), string(text), 0o644)
		args = append(args, "/packages/"+filepath.Base(file))
	}
	m.run(args...)
	if text := m.run("dpkg", "--audit"); text != "" {
		m.t.Errorf("dpkg says: %s", text)
	}
}

// boot makes the machine look as if systemd ran, with a systemctl that writes down what it is told.
func (m *machine) boot() {
	m.write("/run/systemd/system/.here", "", 0o644)
	m.write("/usr/local/bin/systemctl", "#!/bin/sh\necho \"$@\" >>/calls\n", 0o755)
	m.calls()
}

// calls is what systemctl was told since it was last asked.
func (m *machine) calls() []string {
	m.t.Helper()
	text, err := os.ReadFile(m.at("/calls"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.at("/calls"), nil, 0o644); err != nil {
		m.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// told checks what systemctl was told, however often and in whichever order.
func (m *machine) told(want ...string) {
	m.t.Helper()
	got := m.calls()
	slices.Sort(got)
	slices.Sort(want)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		m.t.Errorf("systemctl was told %q, want %q", got, want)
	}
}

// debs gives the packages of both programs: of an older version with other configurations, and
// of a newer one with the real programs.
func debs(t *testing.T) (older, newer []string) {
	t.Helper()
	before := pretended(t, here, "v1.1.0")
	former := t.TempDir()
	for _, dir := range []string{"deploy/packages", "deploy/examples"} {
		if err := os.CopyFS(filepath.Join(former, dir), os.DirFS(filepath.Join(before.top, dir))); err != nil {
			t.Fatal(err)
		}
	}
	said(t, "cp", filepath.Join(before.top, "LICENSE"), former)
	for _, name := range []string{"agent.yaml", "controlplane.yaml"} {
		f, err := os.OpenFile(filepath.Join(former, "deploy/examples", name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("# of the former version\n")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	before.top = former
	after := pretended(t, here, "v1.2.3")
	for _, one := range programs {
		if err := os.Remove(filepath.Join(after.bin(here), one.name)); err != nil {
			t.Fatal(err)
		}
		if err := after.compile(t.Context(), here, after.bin(here), []string{one.source}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*release{before, after} {
		if err := r.packages(here); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range programs {
		older = append(older, filepath.Join(before.out, one.name+"_1.1.0_amd64.deb"))
		newer = append(newer, filepath.Join(after.out, one.name+"_1.2.3_amd64.deb"))
	}
	return older, newer
}

// Both packages live on one machine: installed, upgraded, removed, installed again and purged.
func TestDebs(t *testing.T) {
	m := debian(t)
	older, newer := debs(t)

	m.install(older...) // without systemd, as in a chroot
	m.installed("v1.1.0")

	// An administrator changes one configuration, and both have run.
	config := m.read("/etc/crossdock-agent/agent.yaml") + "log: {level: debug}\n"
	m.write("/etc/crossdock-agent/agent.yaml", config, 0o644)
	for _, one := range programs {
		m.write("/etc/"+one.name+"/secrets/shop.token", "s3cret", 0o640)
		m.write("/var/lib/"+one.name+"/journal/1", "kept", 0o600)
		link := "/etc/systemd/system/multi-user.target.wants/" + one.name + ".service"
		m.run("mkdir", "-p", filepath.Dir(link))
		m.run("ln", "-s", "/usr/lib/systemd/system/"+one.name+".service", link) // as systemctl enable does
	}
	m.boot()
	m.install(newer...)
	m.told("daemon-reload", "try-restart crossdock-agent.service", "try-restart crossdock.service")
	m.installed("v1.2.3")
	if got := m.read("/etc/crossdock-agent/agent.yaml"); got != config {
		t.Errorf("the configuration was changed:\n%s", got)
	}
	if got := m.read("/etc/crossdock/controlplane.yaml"); strings.Contains(got, "former version") {
		t.Error("a configuration that nobody had changed is still that of the former version")
	}
	m.kept()

	m.run("dpkg", "--remove", "crossdock-agent", "crossdock")
	m.told("daemon-reload", "stop crossdock-agent.service", "stop crossdock.service")
	for _, one := range programs {
		m.has(false, "/usr/bin/"+one.name, "/usr/lib/systemd/system/"+one.name+".service")
	}
	m.has(false, "/usr/lib/crossdock-agent/plugins")
	m.kept()

	m.install(newer...)
	m.installed("v1.2.3")
	if got := m.read("/etc/crossdock-agent/agent.yaml"); got != config {
		t.Errorf("the configuration was changed:\n%s", got)
	}
	m.kept()
	m.calls()

	m.run("dpkg", "--purge", "crossdock-agent", "crossdock")
	m.told("daemon-reload", "stop crossdock-agent.service", "stop crossdock.service")
	for _, one := range programs {
		m.has(false, "/usr/bin/"+one.name, "/etc/"+one.name, "/var/lib/"+one.name, "/usr/share/doc/"+one.name,
			"/etc/systemd/system/multi-user.target.wants/"+one.name+".service")
		if !strings.Contains(m.read("/etc/passwd"), "\n"+one.name+":") {
			t.Errorf("the user %s is gone: its number may become another's", one.name)
		}
	}
	m.refuses(newer[1])
	if err := os.RemoveAll(m.at("/run/systemd")); err != nil {
		t.Fatal(err)
	}
	m.keepsEvents(newer[1])
}

// refuses has a command read the agent's data: a removal is refused, and the service that it has
// stopped is started again.
func (m *machine) refuses(agent string) {
	m.t.Helper()
	const lock = "/var/lib/crossdock-agent/journal/cursors.db"
	m.install(agent)
	m.write(lock, "", 0o600)
	reader, err := os.Open(m.at(lock))
	if err != nil {
		m.t.Fatal(err)
	}
	if err := syscall.Flock(int(reader.Fd()), syscall.LOCK_SH); err != nil {
		m.t.Fatal(err)
	}
	m.calls()
	if said, err := m.try("dpkg", "--remove", "crossdock-agent"); err == nil || !strings.Contains(said, "a command that reads") {
		m.t.Errorf("removed while its data is read: %v\n%s", err, said)
	}
	m.told("is-enabled --quiet crossdock-agent.service", "start --no-block crossdock-agent.service", "stop crossdock-agent.service")
	if err := errors.Join(reader.Close(), os.Remove(m.at(lock))); err != nil {
		m.t.Fatal(err)
	}
}

// What was accepted outlives a purge without systemd: an agent that runs is not removed under its
// feet, and the data stays in which events may wait.
func (m *machine) keepsEvents(agent string) {
	m.t.Helper()
	const data = "/var/lib/crossdock-agent"
	m.install(agent)
	m.write(data+"/journal/cursors.db", "", 0o600)
	lock, err := os.Open(m.at(data + "/journal/cursors.db"))
	if err != nil {
		m.t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // as an agent that runs
		m.t.Fatal(err)
	}
	if said, err := m.try("dpkg", "--purge", "crossdock-agent"); err == nil || !strings.Contains(said, "Stop it first") {
		m.t.Errorf("purged under an agent that runs: %v\n%s", err, said)
	}
	m.has(true, "/usr/bin/crossdock-agent", data+"/journal/cursors.db")
	if said := m.run("dpkg", "--audit"); said != "" {
		m.t.Errorf("dpkg says: %s", said)
	}
	if err := errors.Join(lock.Close(), os.Remove(m.at(data+"/journal/cursors.db"))); err != nil {
		m.t.Fatal(err)
	}
	m.write(data+"/journal/00000000000000000001.log", "damaged, so that what waits cannot be counted", 0o600)
	m.comesBack(agent)
}

// comesBack purges the agent from data that stays: installed again, it has what it needs to pass
// the events on.
func (m *machine) comesBack(agent string) {
	m.t.Helper()
	const data, config, secret = "/var/lib/crossdock-agent", "/etc/crossdock-agent/agent.yaml", "/etc/crossdock-agent/secrets/shop.token"
	example := m.read(config)
	mine := strings.ReplaceAll(example, "crossdock.example.com", "hub.example")
	if mine == example {
		m.t.Fatal("the example does not name crossdock.example.com")
	}
	m.write(config, mine, 0o644)
	m.write(secret, "s3cret", 0o640)
	m.run("chgrp", "crossdock-agent", secret)
	if said := m.run("dpkg", "--purge", "crossdock-agent"); !strings.Contains(said, "cannot be counted") || !strings.Contains(said, "rm -r "+data) {
		m.t.Errorf("the purge says\n%s", said)
	}
	m.has(true, data+"/journal/00000000000000000001.log")
	m.has(false, "/usr/bin/crossdock-agent", config, config+".keep", data+".waiting")

	m.install(agent)
	if got := m.read(config); got != mine {
		m.t.Errorf("after a purge that left the data the configuration is\n%s", got)
	}
	if got := m.read(config + ".dpkg-dist"); got != example {
		m.t.Errorf("beside it is\n%s", got)
	}
	m.run("/usr/bin/crossdock-agent", "config", "check")
	if got := m.run("/usr/bin/setpriv", "--reuid=crossdock-agent", "--regid=crossdock-agent", "--init-groups", "cat", secret); got != "s3cret" {
		m.t.Errorf("the agent reads the secret %q", got)
	}

	if err := os.Remove(m.at(data + "/journal/00000000000000000001.log")); err != nil {
		m.t.Fatal(err)
	}
	m.run("dpkg", "--remove", "crossdock-agent")
	m.write(data+"/journal/00000000000000000001.log", "of a program that was copied", 0o600)
	if said := m.run("dpkg", "--purge", "crossdock-agent"); !strings.Contains(said, "events may wait") {
		m.t.Errorf("the purge of what was removed earlier says\n%s", said)
	}
	m.has(true, data+"/journal/00000000000000000001.log", config+".kept", secret)

	another := mine + "log: {level: debug}\n" // put there by somebody since
	m.write(config, another, 0o644)
	m.install(agent)
	if got := m.read(config); got != another {
		m.t.Errorf("a configuration that was not the package's was written over:\n%s", got)
	}
	m.has(true, config+".kept")
	if err := os.Remove(m.at(data + "/journal/00000000000000000001.log")); err != nil {
		m.t.Fatal(err)
	}
	m.run("dpkg", "--purge", "crossdock-agent")
	m.has(false, "/etc/crossdock-agent", data, data+".waiting", data+".passed-on")
}

// installed looks at what a package brings.
func (m *machine) installed(version string) {
	m.t.Helper()
	for _, one := range programs {
		if got := m.run("/usr/bin/"+one.name, "version"); !strings.Contains(got, version) {
			m.t.Errorf("%s says %q, want version %s", one.name, got, version)
		}
		if got := m.run("stat", "-c", "%U:%G %a", "/etc/"+one.name+"/secrets"); got != "root:"+one.name+" 750\n" {
			m.t.Errorf("secrets of %s are %s", one.name, got)
		}
		m.has(true, "/usr/lib/systemd/system/"+one.name+".service", "/usr/share/doc/"+one.name+"/copyright", "/usr/share/doc/"+one.name+"/changelog.gz")
		if !strings.Contains(m.run("getent", "passwd", one.name), "/usr/sbin/nologin") {
			m.t.Errorf("people can log in as %s", one.name)
		}
	}
	if got := m.run("stat", "-c", "%U:%G %a", "/var/lib/crossdock-agent"); got != "crossdock-agent:crossdock-agent 700\n" {
		m.t.Errorf("the agent's data is of %s: what enrolment as root leaves there nobody else reads", got)
	}
	m.has(true, "/usr/lib/sysctl.d/50-crossdock.conf", "/usr/lib/sysctl.d/50-crossdock-agent.conf", "/usr/lib/crossdock-agent/plugins/carrier-zone")
}

// kept looks at what only a purge may take.
func (m *machine) kept() {
	m.t.Helper()
	for _, one := range programs {
		m.has(true, "/etc/"+one.name+"/secrets/shop.token", "/etc/systemd/system/multi-user.target.wants/"+one.name+".service")
		if got := m.read("/var/lib/" + one.name + "/journal/1"); got != "kept" {
			m.t.Errorf("the data of %s is %q", one.name, got)
		}
	}
	m.has(true, "/etc/crossdock-agent/agent.yaml", "/etc/crossdock/controlplane.yaml")
}
