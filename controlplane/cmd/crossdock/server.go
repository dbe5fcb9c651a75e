package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/model"
)

func (a *app) serverCommand() *cobra.Command {
	var file, approvals, level string
	cmd := &cobra.Command{
		Use: "server", Short: "Run a node of the control plane", Args: cobra.NoArgs,
		Long: `Run a node of the control plane.

The first start in an empty data directory begins a cluster: it makes the internal CA and
an administrator, whose token is left in admin.token there, readable by this user only.
Approvals are chosen then, once: dual (a change needs a second person) or single.`,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			config, err := a.serverConfig(file, approvals)
			if err != nil {
				return err
			}
			var least slog.Level
			if err := least.UnmarshalText([]byte(level)); err != nil {
				return usageError("--log-level %q is none of debug, info, warn, error", level)
			}
			log, kept, err := config.KeepLog(slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: least})))
			if err != nil {
				return err
			}
			defer kept.Close()
			return a.serve(ctx, config, log)
		}),
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file, YAML")
	cmd.Flags().StringVar(&approvals, "approvals", "", "dual or single; when the cluster begins")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// serverConfig: defaults, then the file, then flags. The environment names a data directory
// for a file that names none; where both do and differ, nothing is done in either.
func (a *app) serverConfig(file, approvals string) (controlplane.Config, error) {
	config := controlplane.NewConfig()
	if file != "" {
		var err error
		if config, err = controlplane.LoadConfig(file); err != nil {
			return config, &exitError{exitUsage, err}
		}
	}
	switch env := os.Getenv("CROSSDOCK_DATA"); {
	case a.client.data != "":
		config.Data = a.client.data
	case env == "":
	case config.DataSaid() && !sameDir(env, config.Data):
		return config, usageError("CROSSDOCK_DATA is %s, and data: in %s is %s; unset CROSSDOCK_DATA, or say with --data which is meant", env, file, config.Data)
	case !config.DataSaid():
		config.Data = env
	}
	if approvals != "" {
		config.Approvals = model.Approvals(approvals)
	}
	if err := config.Validate(); err != nil {
		return config, &exitError{exitUsage, err}
	}
	return config, nil
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

func (a *app) serve(ctx context.Context, config controlplane.Config, log *slog.Logger) error {
	controlplane.Version = versionText()
	node, err := controlplane.New(config, log, func(err error) {
		// The disk may hang or lie: nothing that would wait for it may come before the end.
		fmt.Fprintln(a.stderr, "crossdock: the store cannot go on, the process ends:", err)
		os.Exit(exitFailed)
	})
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-node.Ready():
			if cluster, _ := node.Cluster(); cluster.Approvals == model.ApprovalsSingle {
				a.toldSingle = true
				fmt.Fprintln(a.stderr, singleNote)
			}
		case <-ctx.Done():
		}
	}()
	if err := node.Run(ctx); err != nil {
		return nodeError(err)
	}
	return nil
}
