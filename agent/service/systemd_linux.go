package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// run runs a command, and gives its words with its error.
func (m *Machine) run(ctx context.Context, name string, args ...string) (string, error) {
	if m.Run != nil {
		return m.Run(ctx, name, args...)
	}
	text, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	said := strings.TrimSpace(string(text))
	if err != nil {
		return said, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return said, nil
}

// managed says why services cannot be managed here, nil if they can.
func (m *Machine) managed() error {
	if m.Offline || m.Run != nil {
		return nil
	}
	if _, err := os.Stat(systemdRuns); err != nil {
		return fmt.Errorf("%w: there is no %s, so this is no systemd; have whatever supervises programs here run \"crossdock-agent run\" "+
			"as user %s, start it again whenever it ends, and stop it with SIGTERM; what root has left in its data is made that user's by: chown -R %[3]s:%[3]s %[4]s; "+
			"crossdock-agent help install says more", ErrNoManager, systemdRuns, Name, dataPath)
	}
	return nil
}

func (m *Machine) allowed() error {
	if !m.Offline && m.Run == nil && os.Geteuid() != 0 {
		return fmt.Errorf("%w: say it again with sudo", ErrDenied)
	}
	return nil
}

// unitFile finds the unit that is in force, "" if there is none.
func (m *Machine) unitFile() string {
	for _, path := range []string{ownUnit, packagedUnit, "/lib/systemd/system/" + unitName} {
		if _, err := os.Stat(m.at(path)); err == nil {
			return path
		}
	}
	return ""
}

// Install makes the service and starts it. The unit of a package is enabled as it is; for a
// program from elsewhere the unit, the user and a copy of the program are made. What is there
// already as it should be stays; a file of somebody else's is ErrForeign.
func (m *Machine) Install(ctx context.Context, s Setup) error {
	if err := errors.Join(m.managed(), m.allowed()); err != nil {
		return err
	}
	if !m.Offline && s.Data != dataPath {
		return fmt.Errorf("the service may write to %s only, and the agent's data is in %s: leave data: out of the configuration, or supervise \"crossdock-agent run\" yourself",
			dataPath, s.Data)
	}
	replaced, err := m.place(ctx, s)
	if err != nil {
		return err
	}
	if m.Offline {
		return m.enableOffline()
	}
	if err := m.handOver(ctx, s); err != nil {
		return err
	}
	if _, err := m.run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if _, err := m.run(ctx, "systemctl", "enable", unitName); err != nil {
		return err
	}
	verb := "start"
	if replaced {
		verb = "restart" // an older one may run
	}
	if _, err := m.run(ctx, "systemctl", verb, unitName); err != nil {
		return fmt.Errorf("the service is installed and does not start; journalctl -u %s says why: %w", Name, err)
	}
	m.say("enabled and started %s", unitName)
	return nil
}

// place writes what no package has brought, and reports whether the program is another now.
func (m *Machine) place(ctx context.Context, s Setup) (replaced bool, err error) {
	r, err := m.readRecord()
	if err != nil {
		return false, err
	}
	if at := m.unitFile(); at != "" && at != ownUnit {
		m.say("%s is a package's and is used", at)
		return false, nil
	}
	program, err := os.ReadFile(s.Program)
	if err != nil {
		return false, fmt.Errorf("read this program: %w", err)
	}
	files := []file{{ownProgram, 0o755, program}, {buffersFile, 0o644, []byte(buffers)}, {ownUnit, 0o644, []byte(unit())}}
	if m.Offline {
		files = append(files, file{usersFile, 0o644, []byte(users)})
	}
	r.Data = s.Data
	for _, f := range files {
		changed, err := m.put(&r, f)
		if err != nil {
			return replaced, err
		}
		replaced = replaced || changed
	}
	if err := m.copyPlugins(s); err != nil || m.Offline {
		return replaced, err
	}
	if _, err := m.run(ctx, "sysctl", "-q", "-p", buffersFile); err != nil {
		m.say("UDP buffers stay as they are until the next start of the machine: %v", err)
	}
	return replaced, m.makeUser(ctx, &r)
}

func (m *Machine) makeUser(ctx context.Context, r *record) error {
	if _, err := m.run(ctx, "getent", "passwd", Name); err == nil {
		return nil
	}
	if _, err := m.run(ctx, "useradd", "--system", "--user-group", "--home-dir", dataPath, "--no-create-home",
		"--shell", "/usr/sbin/nologin", "--comment", "Crossdock agent", Name); err != nil {
		return err
	}
	m.say("made the user %s", Name)
	r.User = true
	return m.writeRecord(*r)
}

// copyPlugins puts the plugins that a bundle has beside the program to where the agent looks.
func (m *Machine) copyPlugins(s Setup) error {
	found, err := os.ReadDir(filepath.Join(filepath.Dir(s.Program), "plugins"))
	if err != nil {
		return nil //nolint:nilerr // there are none
	}
	if err := os.MkdirAll(m.at(s.Data), 0o700); err != nil {
		return err
	}
	// The directory may be the agent's by now: its links must lead nowhere.
	data, err := os.OpenRoot(m.at(s.Data))
	if err != nil {
		return err
	}
	defer data.Close()
	if err := data.Mkdir("plugins", 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, f := range found {
		if !f.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(filepath.Dir(s.Program), "plugins", f.Name()))
		if err != nil {
			return err
		}
		name := filepath.Join("plugins", f.Name())
		if err := data.WriteFile(name+".new", text, 0o755); err != nil {
			return err
		}
		if err := data.Rename(name+".new", name); err != nil {
			return err
		}
	}
	m.say("plugins are in %s", filepath.Join(m.at(s.Data), "plugins"))
	return nil
}

// enableOffline does for an image what "systemctl enable" does on a machine.
func (m *Machine) enableOffline() error {
	link := m.at(wantedUnit)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(m.unitFile(), link); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	m.say("enabled %s in %s; it starts with the machine", unitName, m.Root)
	return nil
}

// handOver gives the data to the agent's user: an administrator has enrolled, and what root
// has written only root can read.
func (m *Machine) handOver(ctx context.Context, s Setup) error {
	var ids [2]int
	for i, flag := range []string{"-u", "-g"} {
		text, err := m.run(ctx, "id", flag, Name)
		if err == nil {
			ids[i], err = strconv.Atoi(text)
		}
		if err != nil {
			return fmt.Errorf("the agent's user: %w", err)
		}
	}
	// One that holds a proxy's password is for nobody else; the agent has to read it.
	if info, err := os.Stat(m.at(s.Config)); err == nil && info.Mode().Perm()&0o004 == 0 {
		if err := errors.Join(os.Chown(m.at(s.Config), -1, ids[1]), os.Chmod(m.at(s.Config), 0o640)); err != nil {
			return err
		}
	}
	return giveTo(m.at(s.Data), ids[0], ids[1])
}

// Start starts the service.
func (m *Machine) Start(ctx context.Context) error { return m.control(ctx, "start") }

// Stop stops it, until the machine starts again.
func (m *Machine) Stop(ctx context.Context) error { return m.control(ctx, "stop") }

// Restart stops it, if it runs, and starts it.
func (m *Machine) Restart(ctx context.Context) error { return m.control(ctx, "restart") }

func (m *Machine) control(ctx context.Context, verb string) error {
	if err := m.managed(); err != nil {
		return err
	}
	if m.unitFile() == "" {
		return ErrNotInstalled
	}
	if err := m.allowed(); err != nil {
		return err
	}
	_, err := m.run(ctx, "systemctl", verb, unitName)
	return err
}

// Status asks how the service is; anybody may.
func (m *Machine) Status(ctx context.Context) (State, error) {
	if err := m.managed(); err != nil {
		return State{}, err
	}
	s := State{Unit: m.unitFile()}
	s.Installed = s.Unit != ""
	if m.Offline {
		_, err := os.Lstat(m.at(wantedUnit))
		s.Enabled = err == nil
		return s, nil
	}
	if !s.Installed {
		return s, nil
	}
	text, err := m.run(ctx, "systemctl", "show", "--property=ActiveState,SubState,UnitFileState,StatusText", unitName)
	if err != nil {
		return s, err
	}
	said := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		said[key] = value
	}
	s.Enabled = strings.HasPrefix(said["UnitFileState"], "enabled")
	s.Running = said["ActiveState"] == "active" || said["ActiveState"] == "reloading"
	s.State = said["ActiveState"]
	if sub := said["SubState"]; sub != "" && sub != s.State {
		s.State += " (" + sub + ")"
	}
	s.Detail = said["StatusText"]
	return s, nil
}
