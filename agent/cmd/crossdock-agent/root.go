package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/service"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/protocol/settings"
)

// exitCodes is what the help says of them; the tests hold the commands to it.
const exitCodes = `Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the agent is not running,
4 not enrolled or denied, 5 the control plane is unreachable, 6 not possible as things are:
the data directory or a port is in use, the data is another agent's, a file is in the way,
or events wait; 8 doctor found warnings and --strict was given.`

// coded is an error with an exit code.
type coded struct {
	code int
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &coded{code: code, err: err}
}

const (
	exitFailed      = 1
	exitUsage       = 2
	exitNotRunning  = 3
	exitDenied      = 4
	exitUnreachable = 5
	exitConflict    = 6
	exitWarnings    = 8
)

// program is what every command needs.
type program struct {
	in       io.Reader
	out, err io.Writer
	config   string // path; empty: the default file if it is there
	output   string // text or json
	flags    *pflag.FlagSet
	root     string // folder that stands for the machine's root; empty: the machine
	started  bool   // the command line was understood
}

// configVariable names the configuration file where no flag does.
const configVariable = "CROSSDOCK_AGENT_CONFIG"

func defaultConfigPath() string {
	if runtime.GOOS == "windows" {
		return os.ExpandEnv(`${ProgramData}\Crossdock\agent.yaml`)
	}
	return "/etc/crossdock-agent/agent.yaml"
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	p := &program{in: in, out: out, err: errOut}
	root := p.commands()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(errOut, "crossdock-agent: %v\n", err)
	if !p.started {
		fmt.Fprintf(errOut, "try: %s --help\n", cmd.CommandPath())
	}
	return exitCode(err)
}

func (p *program) commands() *cobra.Command {
	root := &cobra.Command{
		Use:           "crossdock-agent",
		Short:         "The agent at a site: accepts, keeps, routes and delivers the events of the site's systems",
		Long:          "The agent at a site: accepts, keeps, routes and delivers the events of the site's systems.\n\n" + exitCodes,
		Version:       version,
		RunE:          p.group,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if p.output != "text" && p.output != "json" {
				return withCode(exitUsage, fmt.Errorf("-o %s: it is text or json", p.output))
			}
			p.started = true
			return nil
		},
	}
	flags := root.PersistentFlags()
	p.flags = flags
	flags.StringVarP(&p.config, "config", "c", os.Getenv(configVariable), "configuration file (default "+defaultConfigPath()+", if it is there)")
	flags.String("data", "", "data directory, instead of the configuration's")
	flags.StringVarP(&p.output, "output", "o", "text", "text or json")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withCode(exitUsage, err) })
	root.SetHelpCommand(p.helpCommand())
	root.AddCommand(
		p.runCommand(), p.enrollCommand(), p.serviceCommand(), p.uninstallCommand(),
		p.statusCommand(), p.doctorCommand(), p.pageCommand(), p.tailCommand(), p.bundleCommand(),
		p.queueCommand(), p.callsCommand(), p.documentsCommand(), p.numbersCommand(), p.pluginsCommand(),
		p.configCommand(), p.reloadCommand(),
		p.upgradeCommand(), p.rollbackCommand(), p.versionsCommand(), p.versionCommand(),
	)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" { // cobra's own
			c.Args, c.RunE = cobra.ArbitraryArgs, p.group
		}
	}
	return root
}

func exitCode(err error) int {
	var c *coded
	var chosen *versions.ExitError
	switch {
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &chosen):
		return chosen.Code
	case errors.Is(err, identity.ErrNotEnrolled):
		return exitDenied
	case errors.Is(err, queue.ErrInUse), errors.Is(err, agent.ErrPortInUse), errors.Is(err, agent.ErrOtherAgent):
		return exitConflict
	case strings.HasPrefix(err.Error(), "unknown command"):
		return exitUsage // cobra has no type for it
	}
	return exitFailed
}

// one is for a command that takes one argument, in the words of what that is.
func one(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return withCode(exitUsage, fmt.Errorf("%s needs %s", cmd.CommandPath(), what))
		case 1:
			return nil
		}
		return withCode(exitUsage, fmt.Errorf("%s takes one argument, %s, and not %d", cmd.CommandPath(), what, len(args)))
	}
}

// group answers for a command that is nothing without one of its subcommands.
func (p *program) group(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		text := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return withCode(exitUsage, fmt.Errorf("%s; see %s --help", text, cmd.CommandPath()))
	}
	cmd.SetOut(p.err)
	if err := cmd.Help(); err != nil {
		return err
	}
	return withCode(exitUsage, fmt.Errorf("%s needs one of the commands above", cmd.CommandPath()))
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
			}{version}
			return p.print(v, func(w io.Writer) { fmt.Fprintf(w, "crossdock-agent version %s\n", version) })
		},
	}
}

// load reads the configuration and checks it, unless there is no file.
func (p *program) load() (agent.Config, error) {
	cfg, values, path, err := p.read()
	if err == nil && path != "" {
		err = values.Locate(cfg.Validate())
	}
	return cfg, withCode(exitUsage, err)
}

// loadRunning is for commands that ask the running agent: that one goes on by the
// configuration before, so that a file that is wrong is no reason not to ask. One that is not
// where it was said to be is: nobody can tell whom to ask then.
func (p *program) loadRunning() (agent.Config, error) {
	cfg, _, _, err := p.read()
	if p.misnamed() {
		return cfg, withCode(exitUsage, err)
	}
	if err != nil {
		fmt.Fprintf(p.err, "crossdock-agent: the configuration is wrong: %v\n", err)
	}
	return cfg, nil
}

// misnamed reports whether the configuration file is not where it was said to be.
func (p *program) misnamed() bool {
	_, err := os.Stat(p.config)
	return p.config != "" && errors.Is(err, fs.ErrNotExist)
}

// loadWhole is for commands that need all of it, where there is no file too.
func (p *program) loadWhole() (agent.Config, error) {
	cfg, values, path, err := p.read()
	if err == nil {
		err = values.Locate(cfg.Validate())
	}
	if err != nil && path == "" && len(cfg.ControlPlane.Addresses) == 0 { // what else there is to say comes after that
		err = fmt.Errorf("%w\nthere is no %s: crossdock-agent enroll --control-plane HOST:PORT writes it, and -c names another file", err, p.under(defaultConfigPath()))
	}
	return cfg, withCode(exitUsage, err)
}

// loadUnchecked leaves the check to a command whose own flags complete the configuration.
// path is the file, empty if there is none.
func (p *program) loadUnchecked() (cfg agent.Config, path string, err error) {
	cfg, _, path, err = p.read()
	return cfg, path, withCode(exitUsage, err)
}

// read reads the file, the fragments beside it, the environment and the flags.
func (p *program) read() (agent.Config, *settings.Values, string, error) {
	sources := settings.Sources{
		File: p.config, Prefix: agent.VariablePrefix, Apart: []string{configVariable},
		Flags: p.flags, Keys: map[string]string{"data": "data"},
	}
	if sources.File == "" {
		at := p.under(defaultConfigPath())
		sources.Dir = filepath.Dir(at)
		if there(at) {
			sources.File = at
		}
	}
	cfg, values, err := agent.Read(sources)
	if p.dataSaid() == "" {
		cfg.Data = p.under(cfg.Data)
	}
	cfg.Version, cfg.Keys = version, strings.FieldsFunc(releaseKeys, func(r rune) bool { return r == ',' || r == ' ' })
	cfg.File = sources.File
	return cfg, values, sources.File, err
}

// dataSaid is the data directory that a flag or the environment names.
func (p *program) dataSaid() string {
	if said := p.flags.Lookup("data").Value.String(); said != "" {
		return said
	}
	return os.Getenv(agent.VariablePrefix + "DATA")
}

// under is where a path of the machine is for a command with --root.
func (p *program) under(path string) string {
	if p.root == "" {
		return path
	}
	return filepath.Join(p.root, path)
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// print writes v as JSON, or as the text that the command makes of it.
func (p *program) print(v any, text func(w io.Writer)) error {
	if p.output != "json" {
		text(p.out)
		return nil
	}
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (p *program) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Run the agent until it is told to stop", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return service.Run(cmd.Context(), func(ctx context.Context) error { return p.launch(ctx, p.serve) })
		},
	}
}
