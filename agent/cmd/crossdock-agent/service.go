package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/service"
)

// maxStart is for how long the stores may be opened before the service manager is not asked for
// more time any more.
const maxStart = time.Hour

func (p *program) serviceCommand() *cobra.Command {
	c := &cobra.Command{
		RunE: p.group, Use: "service", Short: "Make the agent a service of this machine, and look after that",
		Long: "Make the agent a service of this machine, and look after that.\n\n" +
			"It starts with the machine, is started again when it fails, and runs as a user of its own.\n" +
			"Enrol first: a service that cannot do its work is not installed.",
	}
	install := &cobra.Command{
		Use: "install", Short: "Make the service and start it", Args: cobra.NoArgs,
		Long: `Make the service and start it.

The unit that a package has brought is enabled as it is. A program from a downloaded bundle is
copied to /usr/local/bin, its plugins to the data directory, and the unit and the user
crossdock-agent are made. A file that somebody else has put there is never written over. It may
be said again, also with a newer program.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.installService(cmd.Context()) },
	}
	p.rootFlag(install)
	status := &cobra.Command{
		Use: "status", Short: "Say whether the service is there and runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serviceStatus(cmd.Context()) },
	}
	p.rootFlag(status)
	c.AddCommand(install, p.serviceUninstall(), status)
	for _, verb := range []struct {
		name, short string
		act         func(*service.Machine, context.Context) error
	}{
		{"start", "Start the service", (*service.Machine).Start},
		{"stop", "Stop the service, until the machine starts again", (*service.Machine).Stop},
		{"restart", "Stop the service, if it runs, and start it", (*service.Machine).Restart},
	} {
		c.AddCommand(&cobra.Command{
			Use: verb.name, Short: verb.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if verb.name != "stop" {
					if err := p.needIdentity(); err != nil {
						return err
					}
				}
				return serviceError(verb.act(p.machine(), cmd.Context()))
			},
		})
	}
	return c
}

// rootFlag is for commands that can work in a folder instead of the machine.
func (p *program) rootFlag(c *cobra.Command) {
	c.Flags().StringVar(&p.root, "root", "", "folder that stands for the machine's root, for images; files are written there, and nothing is started")
}

func (p *program) machine() *service.Machine {
	return &service.Machine{Root: p.root, Offline: p.root != "", Say: func(format string, args ...any) { fmt.Fprintf(p.err, format+"\n", args...) }}
}

// needIdentity is for what only an enrolled agent can do.
func (p *program) needIdentity() error {
	cfg, err := p.loadWhole()
	if err != nil {
		return err
	}
	if _, err := identity.Open(cfg.IdentityDir()); err != nil {
		return err
	}
	return nil
}

func (p *program) installService(ctx context.Context) error {
	cfg, path, err := p.loadUnchecked()
	if err != nil {
		return err
	}
	// First of all: who has not enrolled has more to do than the configuration.
	if _, err := identity.Open(cfg.IdentityDir()); err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return withCode(exitUsage, err)
	}
	if want := p.under(defaultConfigPath()); path != want {
		return withCode(exitUsage, fmt.Errorf("the service reads %s, and this is %s: put the configuration there, and leave -c and CROSSDOCK_AGENT_CONFIG out", want, path))
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return fmt.Errorf("where this program is: %w", err)
	}
	machine := p.machine()
	data := cfg.Data
	if p.root != "" {
		if data, err = filepath.Rel(p.root, cfg.Data); err != nil {
			return err
		}
		data = "/" + filepath.ToSlash(data)
	}
	if err := machine.Install(ctx, service.Setup{Program: self, Data: data, Config: defaultConfigPath()}); err != nil {
		return serviceError(err)
	}
	return p.print(struct {
		Installed bool `json:"installed"`
	}{true}, func(w io.Writer) {
		fmt.Fprintln(w, "the service is installed; crossdock-agent doctor looks at what it leans on")
	})
}

func (p *program) serviceStatus(ctx context.Context) error {
	state, err := p.machine().Status(ctx)
	if err != nil {
		return serviceError(err)
	}
	err = p.print(state, func(w io.Writer) {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintf(t, "installed\t%s\n", yesNo(state.Installed, state.Unit))
		fmt.Fprintf(t, "starts with the machine\t%s\n", yesNo(state.Enabled, ""))
		fmt.Fprintf(t, "runs\t%s\n", yesNo(state.Running, state.State))
		if state.Detail != "" {
			fmt.Fprintf(t, "says\t%s\n", oneLine(state.Detail))
		}
		_ = t.Flush() // standard output
	})
	switch {
	case err != nil || state.Running || p.root != "" && state.Installed:
		return err
	case !state.Installed:
		return withCode(exitNotRunning, service.ErrNotInstalled)
	}
	return withCode(exitNotRunning, errors.New("the service does not run"))
}

func yesNo(yes bool, more string) string {
	said := "no"
	if yes {
		said = "yes"
	}
	if more != "" {
		said += " (" + more + ")"
	}
	return said
}

func serviceError(err error) error {
	switch {
	case errors.Is(err, service.ErrDenied):
		return withCode(exitDenied, err)
	case errors.Is(err, service.ErrNotInstalled), errors.Is(err, service.ErrNoManager), errors.Is(err, service.ErrForeign):
		return withCode(exitConflict, err)
	}
	return err
}
