package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/queue"
)

// exitCodes is what the help says of them; the tests hold the commands to it.
const exitCodes = `Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the agent is not running,
4 not enrolled or denied, 5 the control plane is unreachable, 6 not possible as things are:
the data directory or a port is in use, or the data is another agent's; 8 doctor found
warnings and --strict was given.`

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
	data     string // overrides the configuration's
	output   string // text or json
}

func defaultConfigPath() string {
	if runtime.GOOS == "windows" {
		return os.ExpandEnv(`${ProgramData}\Crossdock\agent.yaml`)
	}
	return "/etc/crossdock-agent/agent.yaml"
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	p := &program{in: in, out: out, err: errOut}
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
			return nil
		},
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&p.config, "config", "c", os.Getenv("CROSSDOCK_AGENT_CONFIG"), "configuration file (default "+defaultConfigPath()+", if it is there)")
	flags.StringVar(&p.data, "data", os.Getenv("CROSSDOCK_AGENT_DATA"), "data directory, instead of the configuration's")
	flags.StringVarP(&p.output, "output", "o", "text", "text or json")
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withCode(exitUsage, err) })
	root.AddCommand(p.runCommand(), p.enrollCommand(), p.statusCommand(), p.doctorCommand(), p.tailCommand(), p.bundleCommand(), p.queueCommand(), p.numbersCommand(), p.callsCommand(), p.documentsCommand(), p.pluginsCommand(), p.configCommand(), p.versionCommand())
	root.SetHelpCommand(p.helpCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(errOut, "crossdock-agent: %v\n", err)
		return exitCode(err)
	}
	return 0
}

func exitCode(err error) int {
	var c *coded
	switch {
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, identity.ErrNotEnrolled):
		return exitDenied
	case errors.Is(err, queue.ErrInUse), errors.Is(err, agent.ErrPortInUse), errors.Is(err, agent.ErrOtherAgent):
		return exitConflict
	case strings.HasPrefix(err.Error(), "unknown command"), strings.Contains(err.Error(), "arg(s)"):
		return exitUsage // cobra has no type for these two
	}
	return exitFailed
}

// group answers for a command that is nothing without one of its subcommands.
func (p *program) group(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return withCode(exitUsage, fmt.Errorf("unknown command %q for %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath()))
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

// load reads the configuration, applies the flags that stand above it and checks the file.
func (p *program) load() (agent.Config, error) {
	cfg, path, err := p.loadUnchecked()
	if err != nil || path == "" {
		return cfg, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, withCode(exitUsage, fmt.Errorf("%s: %w", path, err))
	}
	return cfg, nil
}

// loadWhole is for commands that need all of it, where there is no file too.
func (p *program) loadWhole() (agent.Config, error) {
	cfg, err := p.load()
	if err == nil {
		err = withCode(exitUsage, cfg.Validate())
	}
	return cfg, err
}

// loadUnchecked leaves the check to a command whose own flags complete the configuration.
// path is the file, empty if there is none.
func (p *program) loadUnchecked() (cfg agent.Config, path string, err error) {
	cfg, path = agent.DefaultConfig(), p.config
	if path == "" {
		if _, err := os.Stat(defaultConfigPath()); err == nil {
			path = defaultConfigPath()
		}
	}
	if path != "" {
		if cfg, err = agent.ReadUnchecked(path); err != nil {
			return cfg, path, withCode(exitUsage, err)
		}
	}
	if p.data != "" {
		cfg.Data, cfg.Secrets = p.data, ""
	}
	cfg.Version, cfg.File = version, path
	return cfg, path, nil
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
			cfg, err := p.loadWhole()
			if err != nil {
				return err
			}
			log, kept, err := cfg.KeepLog(cfg.NewLogger(p.err))
			if err != nil {
				return err
			}
			defer kept.Close()
			cfg.Logger = log
			a, err := agent.New(cfg)
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
}

func (p *program) configCommand() *cobra.Command {
	config := &cobra.Command{RunE: p.group, Use: "config", Short: "Look at the configuration"}
	config.AddCommand(&cobra.Command{
		Use: "check", Short: "Say what is wrong with the configuration", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := p.loadWhole(); err != nil {
				return err
			}
			valid := struct {
				Valid bool `json:"valid"`
			}{true}
			return p.print(valid, func(w io.Writer) { fmt.Fprintln(w, "the configuration is valid") })
		},
	})
	return config
}
