package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/service"
)

// removal is how an uninstallation was asked for.
type removal struct{ purge, yes, force bool }

func (p *program) uninstallCommand() *cobra.Command {
	var r removal
	c := &cobra.Command{
		Use: "uninstall", Short: "Remove the service, and with --purge the data and the configuration", Args: cobra.NoArgs,
		Long: `Remove the service and what its installation has written; with --purge the data, the configuration
that enrolment has written, and the user as well.

It needs neither the control plane nor a certificate nor a configuration that can be read. It says
what it will remove, asks, and refuses while events wait that were not passed on. Files that no
installation has written, or that were changed since, stay. What a package has brought goes with
the package.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.uninstall(cmd.Context(), r) },
	}
	p.rootFlag(c)
	c.Flags().BoolVar(&r.purge, "purge", false, "remove the data, the configuration and the user too")
	c.Flags().BoolVar(&r.yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&r.force, "force", false, "although events wait that were not passed on, or cannot be counted")
	return c
}

// serviceUninstall is the same without the data, beside install.
func (p *program) serviceUninstall() *cobra.Command {
	c := p.uninstallCommand()
	c.Short = "Remove the service; the same as crossdock-agent uninstall"
	return c
}

func (p *program) uninstall(ctx context.Context, how removal) error {
	machine := p.machine()
	cfg := p.whatIsLeft(machine)
	data := cfg.Data
	if p.root != "" {
		data = "/" + strings.TrimPrefix(strings.TrimPrefix(filepath.ToSlash(cfg.Data), filepath.ToSlash(p.root)), "/")
	}
	plan, err := machine.PlanRemoval(data, how.purge)
	if err != nil {
		return serviceError(err)
	}
	if plan.Empty() {
		return p.print(plan, func(w io.Writer) { fmt.Fprintln(w, "nothing is installed here") })
	}
	left, running, err := p.left(ctx, cfg)
	_, unmanaged := machine.Status(ctx)
	if running && errors.Is(unmanaged, service.ErrNoManager) {
		return withCode(exitConflict, fmt.Errorf("an agent runs on %s, and nothing here manages services: stop it first, with SIGTERM or by whatever supervises it; nothing was removed", cfg.Data))
	}
	if err := refuse(left, err, how.force); err != nil {
		return err
	}
	p.tellPlan(&plan, cfg, left, errors.Is(unmanaged, service.ErrNoManager))
	if !how.yes && !p.agreed() {
		return errors.New("nothing was removed")
	}
	if running && plan.Service && p.root == "" {
		if err := p.stopFirst(ctx, machine, cfg, how.force); err != nil {
			return err
		}
	}
	if plan.Data != "" {
		// One that somebody has started by hand goes on writing.
		release, err := queue.Lock(cfg.JournalDir())
		if err != nil {
			return fmt.Errorf("an agent runs on %s that is not this service; stop it: %w", cfg.Data, err)
		}
		if err := release(); err != nil {
			return err
		}
	}
	name := agentName(cfg) // it goes with the data
	if err := machine.Remove(ctx, plan); err != nil {
		return serviceError(err)
	}
	p.tellRest(&plan, name)
	return p.print(plan, func(io.Writer) {})
}

// whatIsLeft makes out where the agent's data is, whatever became of the configuration.
func (p *program) whatIsLeft(machine *service.Machine) agent.Config {
	cfg, path, err := p.loadUnchecked()
	if err == nil {
		return cfg
	}
	cfg = agent.DefaultConfig()
	if noted := machine.DataNoted(); noted != "" {
		cfg.Data = noted
	}
	cfg.Data = p.under(cfg.Data)
	if p.dataSaid() != "" {
		cfg.Data = p.dataSaid()
	}
	fmt.Fprintf(p.err, "%s cannot be read (%v); the data is taken to be in %s\n", path, err, cfg.Data)
	return cfg
}

// left counts what was not passed on: by the agent if it runs, else on its disk.
func (p *program) left(ctx context.Context, cfg agent.Config) (left agent.Left, running bool, err error) {
	if _, err := os.Stat(cfg.JournalDir()); errors.Is(err, fs.ErrNotExist) {
		return left, false, nil // it has never run
	}
	left, err = agent.LeftIn(cfg)
	if !errors.Is(err, queue.ErrInUse) {
		return left, false, err
	}
	status, err := p.status(ctx, cfg)
	return status.Left(), true, err
}

func refuse(left agent.Left, err error, force bool) error {
	switch {
	case force:
		return nil
	case err != nil:
		return withCode(exitConflict, fmt.Errorf("what waits here cannot be counted: %w; --force removes it all the same", err))
	case left.Any():
		return withCode(exitConflict, fmt.Errorf("events or calls wait here that were not passed on: %s; let them go first (crossdock-agent status shows where), or say --force", left))
	}
	return nil
}

// stopFirst stops the service and counts again: it took events until now. If some wait, it goes
// on as before.
func (p *program) stopFirst(ctx context.Context, machine *service.Machine, cfg agent.Config, force bool) error {
	if err := machine.Stop(ctx); err != nil {
		return serviceError(err)
	}
	left, _, err := p.left(ctx, cfg)
	if err := refuse(left, err, force); err != nil {
		return errors.Join(err, machine.Start(ctx))
	}
	return nil
}

func (p *program) tellPlan(plan *service.Removal, cfg agent.Config, left agent.Left, unmanaged bool) {
	say := func(format string, args ...any) { fmt.Fprintf(p.err, format+"\n", args...) }
	say("this will:")
	switch {
	case plan.Service && unmanaged:
		say("  see to it that the service %s is not enabled; nothing here manages services, and no agent runs", service.Name)
	case plan.Service:
		say("  stop and disable the service %s", service.Name)
	}
	for _, path := range plan.Files {
		say("  remove %s", p.under(path))
	}
	for _, path := range plan.Changed {
		say("  leave %s, which was changed since it was written", p.under(path))
	}
	if plan.Data != "" {
		say("  remove %s with everything in it: identity, journal, deliveries, secrets, documents", cfg.Data)
	} else {
		say("  leave the data in %s", cfg.Data)
	}
	if plan.User {
		say("  remove the user %s", service.Name)
	}
	if left.Any() && plan.Data != "" {
		say("  LOSE events and calls that were not passed on: %s", left)
	}
}

func (p *program) agreed() bool {
	fmt.Fprint(p.err, "go on? [y/N] ")
	line, _ := bufio.NewReader(p.in).ReadString('\n') // no answer is no
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// agentName is who the control plane will miss, "" if nobody can tell any more.
func agentName(cfg agent.Config) string {
	granted, err := identity.Held(cfg.IdentityDir())
	if err != nil {
		return ""
	}
	return granted.Agent
}

func (p *program) tellRest(plan *service.Removal, name string) {
	if plan.Packaged {
		fmt.Fprintf(p.err, "the program and its unit are a package's: apt-get remove %s, or dnf remove %s\n", service.Name, service.Name)
	}
	if name == "" {
		name = "NAME" // nothing here says it any more
	}
	fmt.Fprintf(p.err, "the control plane still knows this agent; its operator ends that with: crossdock agents revoke %s\n", name)
}
