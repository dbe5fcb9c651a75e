package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

var (
	// ErrNotInstalled says that the machine has no such service.
	ErrNotInstalled = errors.New("the service is not installed: run crossdock-agent service install, after crossdock-agent enroll")
	// ErrDenied says that only an administrator of the machine may do this.
	ErrDenied = errors.New("only an administrator of this machine may do this")
	// ErrNoManager says that nothing here manages services in a way that is known.
	ErrNoManager = errors.New("no service manager that is known runs here")
	// ErrForeign says that a file is in the way that no installation has written.
	ErrForeign = errors.New("it is there already, and no earlier installation has written it as it is")
)

// Machine is where the service is installed.
type Machine struct {
	Root    string // a folder that stands for the machine's root; "" the machine itself
	Offline bool   // files are written only, as for an image: no command of the machine is run
	// Run runs a command of the machine and gives what it printed; nil: as a process.
	Run func(ctx context.Context, name string, args ...string) (string, error)
	Say func(format string, args ...any) // what was done; nil: nobody is told
}

func (m *Machine) say(format string, args ...any) {
	if m.Say != nil {
		m.Say(format, args...)
	}
}

// Setup is what is installed.
type Setup struct {
	Program string // the file of this program
	Data    string // the agent's data directory, as the machine will see it
	Config  string // its configuration file, likewise
}

// State is how the service is.
type State struct {
	Installed bool   `json:"installed"`
	Unit      string `json:"unit,omitempty"` // file that defines it
	Enabled   bool   `json:"enabled"`        // it starts with the machine
	Running   bool   `json:"running"`
	State     string `json:"state,omitempty"`  // in the manager's words
	Detail    string `json:"detail,omitempty"` // what the program says of itself
}

// Removal is what an uninstallation will do, for people to look at first.
type Removal struct {
	Service  bool     `json:"service"`  // it is stopped and does not start any more
	Packaged bool     `json:"packaged"` // the files are of a package, which removes them
	Files    []string `json:"files"`
	Changed  []string `json:"changed"` // written by an installation and changed since: they stay
	Data     string   `json:"data,omitempty"`
	User     bool     `json:"user"`

	record record
}

// Empty reports whether there is nothing to remove.
func (r *Removal) Empty() bool { return !r.Service && len(r.Files) == 0 && r.Data == "" && !r.User }

// checkData refuses to remove a directory that does not look like an agent's.
func checkData(data string) error {
	for _, part := range []string{"identity", "journal"} {
		if info, err := os.Lstat(filepath.Join(data, part)); err == nil && info.IsDir() {
			return nil
		}
	}
	left, err := os.ReadDir(data)
	if err == nil && len(left) == 0 {
		return nil
	}
	return fmt.Errorf("%s holds neither an identity nor a journal, so it is no agent's data and is not removed: leave --purge out, or name the agent's with --data", data)
}
