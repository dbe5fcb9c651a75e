package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/protocol/sdnotify"
)

func (p *program) configCommand() *cobra.Command {
	config := &cobra.Command{RunE: p.group, Use: "config", Short: "Look at the configuration",
		Long: `Look at the configuration.

A value comes from the last of these that names it: the defaults, the file, the *.yaml files
in the directory conf.d beside it in the order of their names, the environment
(CROSSDOCK_AGENT_INTAKE__LISTEN is intake.listen; lists with commas), the flags.`}
	config.AddCommand(
		&cobra.Command{Use: "check", Short: "Say everything that is wrong with the configuration", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return p.checkConfig() }},
		&cobra.Command{Use: "show", Short: "Show every value that is in force, where it comes from, and no secrets", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return p.showConfig() }},
		&cobra.Command{Use: "example", Short: "Print a file with every key, its default and what it means", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := io.WriteString(p.out, agent.Example())
				return err
			}},
	)
	return config
}

func (p *program) checkConfig() error {
	cfg, values, _, err := p.read()
	if err := errors.Join(err, values.Locate(cfg.Validate())); err != nil {
		return withCode(exitUsage, err)
	}
	valid := struct {
		Valid bool `json:"valid"`
	}{true}
	return p.print(valid, func(w io.Writer) { fmt.Fprintln(w, "the configuration is valid") })
}

// showConfig shows what it can also of a configuration that is wrong.
func (p *program) showConfig() error {
	cfg, values, _, err := p.read()
	wrong := errors.Join(err, values.Locate(cfg.Validate()))
	if p.output == "json" {
		err = p.print(values.List(&cfg), nil)
	} else {
		err = values.Write(p.out, &cfg)
	}
	return errors.Join(withCode(exitUsage, wrong), err)
}

func (p *program) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Have the running agent read its configuration again", Args: cobra.NoArgs,
		Long: `Have the running agent read its configuration again, as the signal HUP does.

It takes over what can change while it runs, and names what waits for a restart. A
configuration that is wrong is refused as a whole: the one before stays in force, and status
and doctor say so.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.loadRunning()
			if err != nil {
				return err
			}
			body, err := p.local(cfg).call(cmd.Context(), http.MethodPost, "/v1/reload", nil)
			if err != nil {
				return err
			}
			defer body.Close()
			var done agent.Reloaded
			if err := json.NewDecoder(body).Decode(&done); err != nil {
				return fmt.Errorf("the agent's answer: %w", err)
			}
			return p.print(done, func(w io.Writer) {
				fmt.Fprintf(w, "the configuration was read again; changed: %s\n", listed(done.Changed))
				if len(done.Restart) > 0 {
					fmt.Fprintf(w, "waiting for a restart: %s\n", listed(done.Restart))
				}
			})
		},
	}
}

func listed(keys []string) string {
	if len(keys) == 0 {
		return "nothing"
	}
	return strings.Join(keys, ", ")
}

// reloadOnHangup reloads at every signal HUP until the function that it gives is called. The
// agent logs and keeps what came of it.
func reloadOnHangup(a *agent.Agent, log *slog.Logger) (stop func()) {
	asked, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(asked, syscall.SIGHUP)
	go func() {
		defer close(ended)
		for range asked {
			log.Info("told to read the configuration again")
			_ = sdnotify.Reload(func() error { // what is wrong is logged, and shown by status
				_, err := a.Reload()
				return err
			})
		}
	}()
	return func() {
		signal.Stop(asked)
		close(asked)
		<-ended
	}
}
