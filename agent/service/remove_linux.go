package service

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// PlanRemoval says what Remove will do. purge means the data, the configuration and the user
// too. It needs nothing but this machine's disk.
func (m *Machine) PlanRemoval(data string, purge bool) (Removal, error) {
	r, err := m.readRecord()
	if err != nil {
		return Removal{}, err
	}
	out := Removal{record: r, Files: []string{}, Changed: []string{}, Service: m.unitFile() != "", Packaged: m.unitFile() != "" && m.unitFile() != ownUnit}
	for _, path := range slices.Sorted(maps.Keys(r.Files)) {
		state, err := m.as(r, path)
		if err != nil {
			return Removal{}, err
		}
		switch {
		case r.Files[path].Keep && !purge:
		case state == "ours":
			out.Files = append(out.Files, path)
		case state == "changed":
			out.Changed = append(out.Changed, path)
		}
	}
	if purge {
		out.User = r.User
		if _, err := os.Lstat(m.at(data)); err == nil {
			out.Data = data
			return out, checkData(m.at(data))
		}
	}
	return out, nil
}

// Remove does what was planned. It goes on after what fails, and says all of it.
func (m *Machine) Remove(ctx context.Context, plan Removal) error {
	if err := m.allowed(); err != nil {
		return err
	}
	var errs []error
	if plan.Service {
		errs = append(errs, m.disable(ctx))
	}
	r := plan.record
	for _, path := range plan.Files {
		if err := os.Remove(m.at(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(r.Files, path)
		m.say("removed %s", m.at(path))
	}
	for _, path := range plan.Changed {
		delete(r.Files, path)
		m.say("left %s: it was changed since it was written here", m.at(path))
	}
	if !m.Offline && m.managed() == nil && plan.Service {
		_, err := m.run(ctx, "systemctl", "daemon-reload")
		errs = append(errs, err)
	}
	if plan.Data != "" {
		if err := os.RemoveAll(m.at(plan.Data)); err != nil {
			errs = append(errs, err)
		} else {
			m.say("removed %s", m.at(plan.Data))
		}
	}
	if plan.User {
		if _, err := m.run(ctx, "userdel", Name); err != nil {
			errs = append(errs, err)
		} else {
			r.User = false
			m.say("removed the user %s", Name)
		}
	}
	errs = append(errs, m.writeRecord(r))
	return errors.Join(errs...)
}

// disable stops the service for good. Where systemd does not run, its link goes by hand.
func (m *Machine) disable(ctx context.Context) error {
	if !m.Offline && m.managed() == nil {
		if said, err := m.run(ctx, "systemctl", "disable", "--now", unitName); err != nil && !strings.Contains(said, "not loaded") {
			return err
		}
		m.say("stopped and disabled %s", unitName)
		return nil
	}
	err := os.Remove(m.at(wantedUnit))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.say("%s was not enabled", unitName)
		return nil
	case err == nil:
		m.say("disabled %s", unitName)
	}
	return err
}
