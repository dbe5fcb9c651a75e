package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1 // it was tried and failed; also: lint found errors, the audit is broken
	exitUsage       = 2 // the command line, a file or the configuration is wrong
	exitUnreachable = 3 // no control plane answers there
	exitDenied      = 4 // the token is not known, or its roles do not allow this
	exitConflict    = 6 // someone else was faster or uses it, or the thing is not in the state that this needs
)

const exitHelp = `Exit codes:
  0  done
  1  failed; also: lint found errors, the audit record is broken
  2  the command line, a file or the configuration is wrong
  3  not running or not reachable
  4  denied: unknown token, or a role is missing
  6  conflict: not in the state that this needs, already there, or in use by a server`

// exitError carries the exit code of a failure.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// app is what all commands share: where they write and how they reach a control plane.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string // text or json
	client         clientFlags
	started        bool // the command line was understood
	toldStale      bool
	single         bool // one person may approve their own changes, as the last answer says
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "crossdock:", clean(err.Error()))
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case !a.started:
		fmt.Fprintf(stderr, "try: %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "crossdock",
		Short: "The control plane of Crossdock: its server and its operator's tool",
		Long: `The control plane of Crossdock: its server and its operator's tool.

Where the control plane is, in this order:
  --server, --token-file, --ca-file
  CROSSDOCK_SERVER, CROSSDOCK_TOKEN (the token itself), CROSSDOCK_CA (a file)
  on the node itself: --data or CROSSDOCK_DATA, the server's data directory
Of several servers, such as hub1:7480,hub2:7480, the first that answers is asked. With a data
directory alone the other nodes of its cluster are asked when that one does not answer.

` + exitHelp,
		SilenceUsage: true, SilenceErrors: true, Version: versionText(),
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.output, "output", "o", "text", "text or json")
	flags.StringVar(&a.client.server, "server", "", "address of the API, such as https://hub.example:7480")
	flags.StringVar(&a.client.tokenFile, "token-file", "", "file that holds your token")
	flags.StringVar(&a.client.caFile, "ca-file", "", "file with the certificate of the control plane's CA, PEM")
	flags.StringVar(&a.client.data, "data", "", "data directory of the control plane, on its node")
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(
		a.serverCommand(), a.configCommand(), a.clusterCommand(), a.statusCommand(), a.tokenCommand(), a.agentsCommand(), a.principalsCommand(),
		a.policyCommand(), a.systemsCommand(), a.secretCommand(), a.rangesCommand(), a.releasesCommand(), a.pluginCommand(), a.eventsCommand(), a.deadLettersCommand(), a.exceptionsCommand(), a.auditCommand(),
		a.versionCommand(),
	)
	root.SetVersionTemplate("crossdock {{.Version}}\n")
	a.group(root)
	return root
}

// do wraps a command's work: from here on an error is no longer one of the command line.
func (a *app) do(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if a.output != "text" && a.output != "json" {
			return usageError("--output is text or json, not %q", a.output)
		}
		a.started = true
		return work(cmd.Context(), args)
	}
}

// ask wraps what a command does at a node of the control plane.
func (a *app) ask(work func(ctx context.Context, c *client, args []string) error) func(*cobra.Command, []string) error {
	return a.do(func(ctx context.Context, args []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		return work(ctx, c, args)
	})
}

// group makes a command that only holds others say so, with an exit code of its own.
func (a *app) group(cmd *cobra.Command) *cobra.Command {
	cmd.Args, cmd.SuggestionsMinimumDistance = cobra.ArbitraryArgs, 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			if err := cmd.Help(); err != nil {
				return err
			}
			return usageError("%s needs a command", cmd.CommandPath())
		}
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usageError("%s", text)
	}
	return cmd
}

// exitOf gives the exit code for what the API refused.
func exitOf(code string) int {
	switch model.Code(code) {
	case model.Unauthorized, model.Forbidden:
		return exitDenied
	case model.Conflict:
		return exitConflict
	case model.Unavailable:
		return exitUnreachable
	}
	return exitFailed
}
