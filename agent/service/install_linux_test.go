package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// host is a machine in a folder whose commands are written down and not run.
type host struct {
	Machine
	t       *testing.T
	setup   Setup
	ran     []string
	answers map[string]string // by the beginning of a command; "!" is a failure
	said    []string
}

func newHost(t *testing.T) *host {
	t.Helper()
	bundle := t.TempDir()
	h := &host{t: t, setup: Setup{Program: filepath.Join(bundle, Name), Data: dataPath, Config: "/etc/crossdock-agent/agent.yaml"}, answers: map[string]string{
		"id -u": fmt.Sprint(os.Getuid()), "id -g": fmt.Sprint(os.Getgid()), "getent": "!",
	}}
	h.Machine = Machine{Root: t.TempDir(), Run: h.run, Say: func(format string, args ...any) { h.said = append(h.said, fmt.Sprintf(format, args...)) }}
	h.file(h.setup.Program, "program one")
	return h
}

func (h *host) run(_ context.Context, name string, args ...string) (string, error) {
	command := strings.Join(append([]string{name}, args...), " ")
	h.ran = append(h.ran, command)
	for prefix, answer := range h.answers {
		if strings.HasPrefix(command, prefix) {
			if answer == "!" {
				return "", errors.New(command + ": failed")
			}
			return answer, nil
		}
	}
	return "", nil
}

// file writes one outside, or with a path of the machine's inside its folder.
func (h *host) file(path, text string) {
	h.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) holds(path, want string) {
	h.t.Helper()
	if text, err := os.ReadFile(h.at(path)); err != nil || string(text) != want {
		h.t.Errorf("%s holds %q, %v", path, text, err)
	}
}

func (h *host) gone(path string) {
	h.t.Helper()
	if _, err := os.Lstat(h.at(path)); !errors.Is(err, fs.ErrNotExist) {
		h.t.Errorf("%s is there: %v", path, err)
	}
}

func (h *host) install() {
	h.t.Helper()
	h.ran = nil
	if err := h.Install(h.t.Context(), h.setup); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) wantRan(want ...string) {
	h.t.Helper()
	if !slices.Equal(h.ran, want) {
		h.t.Errorf("ran %q\nwant %q", h.ran, want)
	}
}

func (h *host) remove(purge bool) Removal {
	h.t.Helper()
	plan, err := h.PlanRemoval(h.setup.Data, purge)
	if err != nil {
		h.t.Fatal(err)
	}
	h.ran = nil
	if err := h.Remove(h.t.Context(), plan); err != nil {
		h.t.Fatal(err)
	}
	return plan
}

// The unit is the packages', but for where the program is.
func TestUnitIsThePackages(t *testing.T) {
	text, err := os.ReadFile("../../deploy/packages/" + unitName)
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("there is no deploy/packages here: the unit is compared with nothing")
	} else if err != nil {
		t.Fatal(err)
	} else if packaged != string(text) {
		t.Errorf("agent/service/%s and deploy/packages/%s differ: they are one, copy the packages' over the other", unitName, unitName)
	}
	for _, line := range []string{"Type=notify", "WatchdogSec=", "User=" + Name, "Restart=always", "StateDirectory=" + Name, "ExecStart=" + ownProgram + " run"} {
		if !strings.Contains(unit(), "\n"+line) {
			t.Errorf("the unit has no %s", line)
		}
	}
	if strings.Contains(unit(), packagedProgram) || !strings.Contains(packaged, "ExecStart="+packagedProgram+" run") {
		t.Error("the two units start the same program")
	}
}

// A bundle becomes a service; a newer one takes its place and is restarted.
func TestInstallFromABundle(t *testing.T) {
	h := newHost(t)
	h.file(filepath.Join(filepath.Dir(h.setup.Program), "plugins", "carrier-zone"), "plugin")
	h.install()
	h.holds(ownProgram, "program one")
	h.holds(ownUnit, unit())
	h.holds(buffersFile, buffers)
	h.holds(dataPath+"/plugins/carrier-zone", "plugin")
	h.wantRan("sysctl -q -p "+buffersFile, "getent passwd crossdock-agent",
		"useradd --system --user-group --home-dir /var/lib/crossdock-agent --no-create-home --shell /usr/sbin/nologin --comment Crossdock agent crossdock-agent",
		"id -u crossdock-agent", "id -g crossdock-agent", "systemctl daemon-reload", "systemctl enable "+unitName, "systemctl restart "+unitName)
	if info, err := os.Stat(h.at(ownProgram)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", info, err)
	}

	h.answers["getent"] = "crossdock-agent:x:999"
	h.install() // again: nothing changes, and what runs goes on
	if last := h.ran[len(h.ran)-1]; last != "systemctl start "+unitName || slices.ContainsFunc(h.ran, func(c string) bool { return strings.HasPrefix(c, "useradd") }) {
		t.Errorf("the second time: %q", h.ran)
	}
	h.file(h.setup.Program, "program two")
	h.install()
	h.holds(ownProgram, "program two")
	if last := h.ran[len(h.ran)-1]; last != "systemctl restart "+unitName {
		t.Errorf("with a newer program: %q", h.ran)
	}
	h.remove(false)
	h.gone(ownProgram)
}

// What somebody else has put there is not written over, and not removed.
func TestFilesOfOthersStay(t *testing.T) {
	for _, path := range []string{ownProgram, buffersFile, ownUnit} {
		h := newHost(t)
		h.file(h.at(path), "somebody's")
		if err := h.Install(t.Context(), h.setup); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), h.at(path)) {
			t.Errorf("over %s: %v", path, err)
		}
		h.holds(path, "somebody's")
		plan := h.remove(false)
		if slices.Contains(plan.Files, path) {
			t.Errorf("%s is to be removed: %+v", path, plan)
		}
		h.holds(path, "somebody's")
	}

	h := newHost(t)
	h.install()
	h.file(h.at(ownUnit), "changed by hand")
	h.file(h.setup.Program, "program two")
	if err := h.Install(t.Context(), h.setup); !errors.Is(err, ErrForeign) {
		t.Errorf("over what was changed since: %v", err)
	}
	plan := h.remove(false)
	if !slices.Equal(plan.Changed, []string{ownUnit}) {
		t.Errorf("%+v", plan)
	}
	h.holds(ownUnit, "changed by hand")
	h.gone(ownProgram)
}

// An installation that broke off between the record and the file can be said again.
func TestInstallAfterABreak(t *testing.T) {
	h := newHost(t)
	h.install()
	h.file(h.setup.Program, "program two")
	h.install()
	h.file(h.at(ownProgram), "program one") // as if the second had ended before the rename
	h.install()
	h.holds(ownProgram, "program two")
}

// The unit of a package is used as it is, and its files are the package's to remove.
func TestPackageIsUsed(t *testing.T) {
	h := newHost(t)
	h.file(h.at(packagedUnit), packaged)
	h.install()
	h.gone(ownProgram)
	h.gone(ownUnit)
	h.gone(recordPath)
	h.wantRan("id -u crossdock-agent", "id -g crossdock-agent", "systemctl daemon-reload", "systemctl enable "+unitName, "systemctl start "+unitName)
	plan := h.remove(false)
	if !plan.Packaged || len(plan.Files) > 0 {
		t.Errorf("%+v", plan)
	}
	h.wantRan("systemctl disable --now "+unitName, "systemctl daemon-reload")
	h.holds(packagedUnit, packaged)
}

func TestPurge(t *testing.T) {
	h := newHost(t)
	h.file(h.at(h.setup.Config), "controlplane: {}")
	if err := h.Note(h.setup.Config); err != nil {
		t.Fatal(err)
	}
	h.install()
	h.file(h.at(dataPath+"/journal/agent"), "eu")
	h.file(h.at("/etc/crossdock-agent/secrets/shop"), "s3cret")

	plan := h.remove(false)
	if plan.User || plan.Data != "" {
		t.Errorf("without purge: %+v", plan)
	}
	h.holds(h.setup.Config, "controlplane: {}")
	h.holds(dataPath+"/journal/agent", "eu")

	plan = h.remove(true)
	if !plan.User || plan.Data != dataPath {
		t.Errorf("with purge: %+v", plan)
	}
	h.wantRan("userdel crossdock-agent")
	for _, path := range []string{h.setup.Config, dataPath, recordPath} {
		h.gone(path)
	}
	h.holds("/etc/crossdock-agent/secrets/shop", "s3cret")
	if plan, err := h.PlanRemoval(h.setup.Data, true); err != nil || !plan.Empty() {
		t.Errorf("at last: %+v %v", plan, err)
	}
}

// A configuration that names a wrong directory does not have it removed.
func TestPurgeOfWhatIsNoAgents(t *testing.T) {
	h := newHost(t)
	h.file(h.at("/srv/photos/one.jpg"), "")
	if _, err := h.PlanRemoval("/srv/photos", true); err == nil || !strings.Contains(err.Error(), "/srv/photos") {
		t.Errorf("%v", err)
	}
}

// The administrator's data becomes the agent's; links that the agent may have laid lead nowhere.
func TestHandOver(t *testing.T) {
	h := newHost(t)
	outside := filepath.Join(t.TempDir(), "shadow")
	h.file(outside, "root's")
	h.file(h.at(dataPath+"/identity/key.pem"), "key")
	h.file(h.at(h.setup.Config), "proxy: with a password")
	if err := errors.Join(os.Symlink(outside, h.at(dataPath+"/link")), os.Chmod(h.at(h.setup.Config), 0o600)); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	h.answers["id -u"], h.answers["id -g"] = "4711", "4712"
	h.install()
	owner := func(path string) string {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return ownerOf(info)
	}
	for path, want := range map[string]string{
		h.at(dataPath): "4711:4712", h.at(dataPath + "/identity/key.pem"): "4711:4712", h.at(dataPath + "/link"): "4711:4712",
		outside: "0:0", h.at(h.setup.Config): "0:4712", h.at(ownProgram): "0:0", h.at(recordPath): "0:0",
	} {
		if got := owner(path); got != want {
			t.Errorf("%s is of %s, want %s", path, got, want)
		}
	}
	if info, err := os.Stat(h.at(h.setup.Config)); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info, err)
	}
	// A later enrolment by root leaves nothing that the agent cannot read.
	h.file(h.at(dataPath+"/identity/key.pem"), "new")
	if err := errors.Join(os.Chown(h.at(dataPath+"/identity/key.pem"), 0, 0), KeepOwner(h.at(dataPath))); err != nil {
		t.Fatal(err)
	}
	if got := owner(h.at(dataPath + "/identity/key.pem")); got != "4711:4712" {
		t.Errorf("after an enrolment: of %s", got)
	}
}

// An image gets files and a link, and no command of this machine runs.
func TestInstallIntoAnImage(t *testing.T) {
	h := newHost(t)
	h.Offline = true
	h.install()
	h.wantRan()
	h.holds(ownUnit, unit())
	h.holds(usersFile, users)
	if at, err := os.Readlink(h.at(wantedUnit)); err != nil || at != ownUnit {
		t.Errorf("%q %v", at, err)
	}
	if s, err := h.Status(t.Context()); err != nil || !s.Installed || !s.Enabled || s.Running || s.Unit != ownUnit {
		t.Errorf("%+v %v", s, err)
	}
	h.install()
	h.remove(true)
	h.wantRan()
	for _, path := range []string{ownUnit, wantedUnit, usersFile, ownProgram, recordPath} {
		h.gone(path)
	}
}

func TestStatusAndControl(t *testing.T) {
	h := newHost(t)
	if s, err := h.Status(t.Context()); err != nil || s.Installed || len(h.ran) > 0 {
		t.Errorf("before: %+v %v %q", s, err, h.ran)
	}
	if err := h.Start(t.Context()); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("%v", err)
	}
	h.install()
	h.answers["systemctl show"] = "ActiveState=active\nSubState=running\nUnitFileState=enabled\nStatusText=site eu, connected by quic"
	want := State{Installed: true, Unit: ownUnit, Enabled: true, Running: true, State: "active (running)", Detail: "site eu, connected by quic"}
	if s, err := h.Status(t.Context()); err != nil || s != want {
		t.Errorf("%+v %v", s, err)
	}
	h.answers["systemctl show"] = "ActiveState=failed\nSubState=failed\nUnitFileState=disabled\nStatusText="
	if s, err := h.Status(t.Context()); err != nil || s.Running || s.Enabled || s.State != "failed" {
		t.Errorf("%+v %v", s, err)
	}
	h.ran = nil
	if err := errors.Join(h.Start(t.Context()), h.Restart(t.Context()), h.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	h.wantRan("systemctl start "+unitName, "systemctl restart "+unitName, "systemctl stop "+unitName)

	h.setup.Data = "/srv/agent"
	if err := h.Install(t.Context(), h.setup); err == nil || !strings.Contains(err.Error(), dataPath) {
		t.Errorf("with data that the unit may not write to: %v", err)
	}
}

// A service that does not start is installed, and where to look is said.
func TestServiceThatDoesNotStart(t *testing.T) {
	h := newHost(t)
	h.answers["systemctl restart"] = "!"
	if err := h.Install(t.Context(), h.setup); err == nil || !strings.Contains(err.Error(), "journalctl -u crossdock-agent") {
		t.Errorf("%v", err)
	}
	h.holds(ownUnit, unit())
}

// Where no systemd runs, what to do instead is said, and nothing is written.
func TestNoSystemd(t *testing.T) {
	if _, err := os.Stat(systemdRuns); err == nil {
		t.Skip("systemd runs here")
	}
	m := Machine{Root: t.TempDir()}
	err := m.Install(t.Context(), Setup{Program: "none", Data: dataPath})
	if !errors.Is(err, ErrNoManager) || !strings.Contains(err.Error(), "crossdock-agent run") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(err.Error(), "as user crossdock-agent") || !strings.Contains(err.Error(), "chown -R crossdock-agent:crossdock-agent "+dataPath) {
		t.Errorf("whose the data has to be is not said: %v", err)
	}
	if left, err := os.ReadDir(m.Root); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}

	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root may remove")
	}
	h := newHost(t)
	h.Run = nil
	h.file(h.at(packagedUnit), packaged)
	h.remove(false)
	if want := []string{unitName + " was not enabled"}; !slices.Equal(h.said, want) {
		t.Errorf("said %q, want %q", h.said, want)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(h.at(wantedUnit)), 0o755), os.Symlink(packagedUnit, h.at(wantedUnit))); err != nil {
		t.Fatal(err)
	}
	h.said = nil
	h.remove(false)
	if want := []string{"disabled " + unitName}; !slices.Equal(h.said, want) {
		t.Errorf("said %q, want %q", h.said, want)
	}
	h.gone(wantedUnit)
}
