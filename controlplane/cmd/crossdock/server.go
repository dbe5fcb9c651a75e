package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/sdnotify"
	"github.com/crossdock/crossdock/protocol/settings"
)

func (a *app) serverCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "server", Short: "Run a node of the control plane", Args: cobra.NoArgs,
		Long: `Run a node of the control plane.

The first start in an empty data directory begins a cluster: it makes the internal CA and
an administrator, whose token is left in admin.token there, readable by this user only.
Approvals are chosen then, once: dual (a change needs a second person) or single.

The signal HUP has it read its configuration again, and take over what can change while it
runs; what waits for a restart is logged. A configuration that is wrong is refused as a
whole, and logged.`,
	}
	cmd.RunE = a.do(func(ctx context.Context, _ []string) error {
		config, err := a.serverConfig(file, cmd.Flags())
		if err != nil {
			return err
		}
		config.Level = new(slog.LevelVar)
		log, kept, err := config.KeepLog(config.NewLogger(a.stderr))
		if err != nil {
			return err
		}
		defer kept.Close()
		again := func() (controlplane.Config, error) { return a.serverConfig(file, cmd.Flags()) }
		return a.serve(ctx, config, log, func(node *controlplane.ControlPlane) func() { return reloadOnHangup(node, again, log) })
	})
	configFlag(cmd, &file)
	cmd.Flags().String("approvals", "", "dual or single; when the cluster begins")
	cmd.Flags().String("log-level", "", "debug, info, warn or error")
	return cmd
}

// configFlag is the same for every command that works by a node's configuration.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration file of this node, YAML (default "+defaultConfig()+", if it is there)")
}

func defaultConfig() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "Crossdock", "controlplane.yaml")
	}
	return "/etc/crossdock/controlplane.yaml"
}

// readConfig: defaults, then the file, the fragments beside it, the environment, flags.
func readConfig(file string, flags *pflag.FlagSet) (controlplane.Config, *settings.Values, error) {
	sources := settings.Sources{
		File: file, Prefix: controlplane.VariablePrefix, Shared: true,
		Apart: []string{"CROSSDOCK_SERVER", "CROSSDOCK_TOKEN", "CROSSDOCK_CA"},
		Flags: flags, Keys: map[string]string{"data": "data", "approvals": "approvals", "log-level": "log.level"},
		Environ: func() []string {
			return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, agentPrefix) })
		},
	}
	if file == "" {
		sources.Dir = filepath.Dir(defaultConfig())
		if _, err := os.Stat(defaultConfig()); err == nil {
			sources.File = defaultConfig()
		}
	}
	return controlplane.Read(sources)
}

// agentPrefix begins the variables of an agent, which may run on the same machine.
const agentPrefix = "CROSSDOCK_AGENT_"

// serverConfig reads and checks. The environment names a data directory for files that name
// none; where both do and differ, nothing is done in either.
func (a *app) serverConfig(file string, flags *pflag.FlagSet) (controlplane.Config, error) {
	config, values, err := readConfig(file, flags)
	if err != nil {
		return config, &exitError{exitUsage, err}
	}
	if err := sameData(&config, values); err != nil {
		return config, &exitError{exitUsage, err}
	}
	if err := values.Locate(config.Faults()); err != nil {
		return config, &exitError{exitUsage, fmt.Errorf("%w: %w", controlplane.ErrConfig, err)}
	}
	return config, nil
}

// sameData refuses a variable that names another data directory than the files do: commands
// that are clients lean on it, and would speak to another node than this one.
func sameData(config *controlplane.Config, values *settings.Values) error {
	at, text := values.InFile("data")
	variable := values.Origin("data").Env
	switch {
	case variable == "" || text == "":
		return nil
	case sameDir(config.Data, text):
		config.Data = text
		return nil
	}
	return fmt.Errorf("%s is %s, and data: in %s is %s; unset %s, or say with --data which is meant",
		variable, config.Data, at.File, text, variable)
}

// sameDir reports whether two names are of one directory, there or not.
func sameDir(a, b string) bool {
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	if errA != nil || errB != nil || absA == absB {
		return a == b || absA == absB
	}
	infoA, errA := os.Stat(absA)
	infoB, errB := os.Stat(absB)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func (a *app) serve(ctx context.Context, config controlplane.Config, log *slog.Logger, reload func(*controlplane.ControlPlane) func()) error {
	controlplane.Version = versionText()
	node, err := controlplane.New(config, log, func(err error) {
		// The disk may hang or lie: nothing that would wait for it may come before the end.
		fmt.Fprintln(a.stderr, "crossdock: the store cannot go on, the process ends:", err)
		os.Exit(exitFailed)
	})
	if err != nil {
		return err
	}
	defer reload(node)()
	go func() {
		select {
		case <-node.Ready():
			if cluster, _ := node.Cluster(); cluster.Approvals == model.ApprovalsSingle {
				log.Info("approvals are single: one person may approve their own changes", "cluster", cluster.ID)
			}
		case <-ctx.Done():
		}
	}()
	end := sdnotify.Attend(ctx, sdnotify.Program{Ready: node.Ready(), Alive: node.Alive, Line: node.Line, Logger: log})
	err = node.Run(ctx)
	end()
	if err != nil {
		return nodeError(err)
	}
	return nil
}
