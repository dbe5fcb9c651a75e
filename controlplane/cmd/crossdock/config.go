package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/protocol/sdnotify"
)

func (a *app) configCommand() *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "Look at a node's configuration",
		Long: `Look at a node's configuration, on its machine.

A value comes from the last of these that names it: the defaults, the file, the *.yaml files
in the directory conf.d beside it in the order of their names, the environment
(CROSSDOCK_SYNC__LISTEN is sync.listen; lists with commas), the flags.`}
	config.AddCommand(a.configCheck(), a.configShow(), &cobra.Command{
		Use: "example", Short: "Print a file with every key, its default and what it means", Args: cobra.NoArgs,
		RunE: a.do(func(context.Context, []string) error {
			_, err := io.WriteString(a.stdout, controlplane.Example())
			return err
		}),
	})
	return a.group(config)
}

func (a *app) configCheck() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "check", Short: "Say everything that is wrong with the configuration", Args: cobra.NoArgs}
	cmd.RunE = a.do(func(context.Context, []string) error {
		config, values, err := readConfig(file, cmd.Flags())
		if err := errors.Join(err, sameData(&config, values), values.Locate(config.Faults())); err != nil {
			return &exitError{exitUsage, err}
		}
		valid := struct {
			Valid bool `json:"valid"`
		}{true}
		return a.show(valid, func(w io.Writer) { fmt.Fprintln(w, "the configuration is valid") })
	})
	configFlag(cmd, &file)
	return cmd
}

// configShow shows what it can also of a configuration that is wrong.
func (a *app) configShow() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "show", Short: "Show every value that is in force, and where it comes from", Args: cobra.NoArgs}
	cmd.RunE = a.do(func(context.Context, []string) error {
		config, values, err := readConfig(file, cmd.Flags())
		wrong := errors.Join(err, sameData(&config, values), values.Locate(config.Faults()))
		if a.output == "json" {
			err = a.show(values.List(&config), nil)
		} else {
			err = values.Write(a.stdout, &config)
		}
		if err != nil || wrong == nil {
			return err
		}
		return &exitError{exitUsage, wrong}
	})
	configFlag(cmd, &file)
	return cmd
}

// reloadOnHangup has a node read its configuration again at every signal HUP, until the
// function that it gives is called.
func reloadOnHangup(node *controlplane.ControlPlane, again func() (controlplane.Config, error), log *slog.Logger) (stop func()) {
	asked, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(asked, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range asked {
			log.Info("told to read the configuration again")
			next, err := again()
			_ = sdnotify.Reload(func() error { return node.Reload(next, err) }) // what is wrong is logged, and shown by the metrics
		}
	}()
	return func() {
		signal.Stop(asked)
		close(asked)
		<-ended
	}
}
