package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	kardianos "github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/mgr"
)

var (
	recordPath = filepath.Join(os.Getenv("ProgramData"), "Crossdock", "installed.json")
	ownProgram = filepath.Join(os.Getenv("ProgramFiles"), "Crossdock", "crossdock-agent.exe")
)

// The manager starts a service that has failed again, and after a quiet day forgets that it did.
const (
	restartAfter = 5 * time.Second
	forgetAfter  = 24 * time.Hour
)

// nothing is what the manager is asked with; Run brings the work.
type nothing struct{}

func (nothing) Start(kardianos.Service) error { return nil }
func (nothing) Stop(kardianos.Service) error  { return nil }

func managed() (kardianos.Service, error) {
	return kardianos.New(nothing{}, &kardianos.Config{
		Name: Name, DisplayName: "Crossdock agent", Executable: ownProgram, Arguments: []string{"run"},
		Description: "Accepts, keeps, routes and delivers the events of this site's systems.",
		Option: kardianos.KeyValue{"DelayedAutoStart": true, kardianos.OnFailure: kardianos.OnFailureRestart,
			kardianos.OnFailureDelayDuration: restartAfter.String(), kardianos.OnFailureResetPeriod: int(forgetAfter.Seconds())},
	})
}

// denied names what the manager's refusal means.
func denied(err error) error {
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return fmt.Errorf("%w: say it again in a window of an administrator: %w", ErrDenied, err)
	}
	return err
}

// Install makes the service, or sets one right that an installer has made, and starts it.
func (m *Machine) Install(ctx context.Context, s Setup) error {
	if m.Root != "" {
		return fmt.Errorf("%w: --root is for Linux", ErrNoManager)
	}
	manager, err := managed()
	if err != nil {
		return err
	}
	if _, err := manager.Status(); errors.Is(err, kardianos.ErrNotInstalled) {
		if err := m.placeProgram(s); err != nil {
			return err
		}
		if err := manager.Install(); err != nil {
			return denied(err)
		}
		m.say("made the service %s", Name)
	} else if err := setRight(); err != nil {
		return denied(err)
	}
	// Others of the machine may read what is below ProgramData; the keys are not for them.
	if text, err := exec.CommandContext(ctx, "icacls", s.Data, "/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "/grant:r", "*S-1-5-32-544:(OI)(CI)F").CombinedOutput(); err != nil {
		return fmt.Errorf("keep %s from other users: %w: %s", s.Data, err, text)
	}
	if err := manager.Start(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
		return denied(err)
	}
	m.say("started the service %s", Name)
	return nil
}

func (m *Machine) placeProgram(s Setup) error {
	r, err := m.readRecord()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(s.Program)
	if err != nil {
		return err
	}
	r.Data = s.Data
	_, err = m.put(&r, file{ownProgram, 0o755, text})
	return err
}

// setRight gives a service of an installer the start and the recovery that it may lack.
func setRight() error {
	manager, err := mgr.Connect()
	if err != nil {
		return err
	}
	defer func() { _ = manager.Disconnect() }() // nothing is lost with it
	s, err := manager.OpenService(Name)
	if err != nil {
		return err
	}
	defer s.Close()
	config, err := s.Config()
	if err != nil {
		return err
	}
	config.StartType, config.DelayedAutoStart = mgr.StartAutomatic, true
	return errors.Join(s.UpdateConfig(config),
		s.SetRecoveryActions([]mgr.RecoveryAction{{Type: mgr.ServiceRestart, Delay: restartAfter}}, uint32(forgetAfter.Seconds())))
}

// Start starts the service.
func (m *Machine) Start(context.Context) error { return control(kardianos.Service.Start) }

// Stop stops it, until the machine starts again.
func (m *Machine) Stop(context.Context) error { return control(kardianos.Service.Stop) }

// Restart stops it, if it runs, and starts it.
func (m *Machine) Restart(context.Context) error { return control(kardianos.Service.Restart) }

func control(act func(kardianos.Service) error) error {
	manager, err := managed()
	if err != nil {
		return err
	}
	if _, err := manager.Status(); errors.Is(err, kardianos.ErrNotInstalled) {
		return ErrNotInstalled
	}
	return denied(act(manager))
}

// Status asks how the service is; anybody may.
func (m *Machine) Status(context.Context) (State, error) {
	manager, err := managed()
	if err != nil {
		return State{}, err
	}
	status, err := manager.Status()
	if errors.Is(err, kardianos.ErrNotInstalled) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	s := State{Installed: true, Enabled: true, Running: status == kardianos.StatusRunning, State: "stopped"}
	if s.Running {
		s.State = "running"
	}
	return s, nil
}

// PlanRemoval says what Remove will do. The program cannot remove its own file while it runs.
func (m *Machine) PlanRemoval(data string, purge bool) (Removal, error) {
	r, err := m.readRecord()
	if err != nil {
		return Removal{}, err
	}
	state, err := m.Status(context.Background())
	if err != nil {
		return Removal{}, err
	}
	_, ours := r.Files[ownProgram]
	out := Removal{record: r, Files: []string{}, Changed: []string{}, Service: state.Installed, Packaged: state.Installed && !ours}
	for _, path := range slices.Sorted(maps.Keys(r.Files)) {
		stands, err := m.as(r, path)
		if err != nil {
			return Removal{}, err
		}
		switch {
		case r.Files[path].Keep && !purge, path == ownProgram:
		case stands == "ours":
			out.Files = append(out.Files, path)
		case stands == "changed":
			out.Changed = append(out.Changed, path)
		}
	}
	if _, err := os.Lstat(data); purge && err == nil {
		out.Data = data
		return out, checkData(data)
	}
	return out, nil
}

// Remove does what was planned. It goes on after what fails, and says all of it.
func (m *Machine) Remove(_ context.Context, plan Removal) error {
	var errs []error
	if plan.Service {
		manager, err := managed()
		if err != nil {
			return err
		}
		_ = manager.Stop() // it may not run
		if !plan.Packaged {
			errs = append(errs, denied(manager.Uninstall()))
		}
	}
	r := plan.record
	for _, path := range plan.Files {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(r.Files, path)
	}
	for _, path := range plan.Changed {
		delete(r.Files, path)
		m.say("left %s: it was changed since it was written here", path)
	}
	if plan.Data != "" {
		errs = append(errs, os.RemoveAll(plan.Data))
	}
	if _, ours := r.Files[ownProgram]; ours {
		m.say("left %s, which runs this command: remove it yourself", ownProgram)
		delete(r.Files, ownProgram)
	}
	return errors.Join(append(errs, m.writeRecord(r))...)
}
