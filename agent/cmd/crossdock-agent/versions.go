package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/protocol/sdnotify"
)

// launch has the chosen version run: here, if it is this one.
func (p *program) launch(ctx context.Context, serve func(context.Context, versions.Start) error) error {
	cfg, values, _, doubt := p.read() // a setting that only the chosen version knows is passed over; serve says what is wrong
	if !values.Whole() {
		return withCode(exitUsage, doubt) // no version can read it, and the choice is not to suffer for that
	}
	store, err := cfg.Versions()
	if err != nil {
		return withCode(exitUsage, err)
	}
	l := &versions.Launcher{Store: store, Version: version, Attempts: cfg.Upgrades.Attempts, Log: cfg.NewLogger(p.err), Doubt: doubt}
	for {
		start, ours, err := l.Launch(ctx)
		if err != nil || !ours {
			return err
		}
		told, cancel := start.UntilTold(ctx)
		again, err := l.Ended(told, start, serve(told, start))
		cancel()
		if !again {
			return err
		}
	}
}

// serve runs the agent in this process, and tells the service manager how it is.
func (p *program) serve(ctx context.Context, start versions.Start) error {
	cfg, err := p.loadWhole()
	if err != nil {
		return err
	}
	cfg.Level, cfg.Start = new(slog.LevelVar), start
	log, kept, err := cfg.KeepLog(cfg.NewLogger(p.err))
	if err != nil {
		return err
	}
	defer kept.Close()
	cfg.Logger = log
	cfg.Reread = func() (agent.Config, error) { return p.loadWhole() }
	var opened atomic.Pointer[agent.Agent]
	ready := make(chan struct{})
	defer sdnotify.Attend(ctx, attended(&opened, ready, cfg.Logger))()
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	opened.Store(a)
	go func() {
		select {
		case <-a.Ready():
			close(ready)
		case <-ctx.Done():
		}
	}()
	defer reloadOnHangup(a, cfg.Logger)()
	return a.Run(ctx)
}

// attended is what the service manager is told of an agent that is being opened, or runs.
func attended(opened *atomic.Pointer[agent.Agent], ready chan struct{}, log *slog.Logger) sdnotify.Program {
	begun := time.Now()
	return sdnotify.Program{
		Ready: ready, Logger: log,
		Alive: func(ctx context.Context) error {
			if a := opened.Load(); a != nil {
				return a.Alive(ctx)
			}
			if time.Since(begun) > maxStart {
				return fmt.Errorf("its stores are being opened for more than %s", maxStart)
			}
			return nil
		},
		Line: func() string {
			if a := opened.Load(); a != nil {
				return a.Line()
			}
			return "opening the stores"
		},
	}
}

func (p *program) upgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "upgrade FILE.tar.gz|DIR", Short: "Have a release that was brought here take over", Args: one("the .tar.gz or the directory of a release"),
		Long: "Have a release that was brought here take over, without the control plane.\n\n" +
			"The release is a directory or a .tar.gz with manifest.json, manifest.json.minisig and the program of this platform:\n" +
			"crossdock releases sign makes crossdock-agent-upgrade-VERSION-OS-ARCH.tar.gz. It has to be signed with a key of upgrades.keys\n" +
			"in the agent's configuration, or where there is none with one that this program was built with. A running agent\n" +
			"takes it at once, another one when it starts. The new version is on trial: it has upgrades.gate to show that it works, else\n" +
			"the version before it runs again. See crossdock-agent versions.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, store, err := p.versions()
			if err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is not there: name the release's .tar.gz, or the directory that it was unpacked into", args[0])
			}
			version, err := p.upgradeRunning(cmd.Context(), cfg, store, args[0])
			state := versions.OnTrial
			if errors.Is(err, errNotRunning) {
				state = "trial at the next start"
				version, err = versions.Stopped{Store: store, Data: cfg.Data, Installed: cfg.Version}.Upgrade(args[0])
			}
			if err != nil {
				return conflicting(err)
			}
			answer := struct {
				Version string `json:"version"`
				State   string `json:"state"`
			}{version, state}
			return p.print(answer, func(w io.Writer) { fmt.Fprintf(w, "version %s: %s\n", answer.Version, answer.State) })
		},
	}
}

// upgradeRunning hands a release to the agent that runs. It is verified before that, in a
// directory of who calls: the agent may not be allowed to read where it lies.
func (p *program) upgradeRunning(ctx context.Context, cfg agent.Config, store *versions.Store, from string) (version string, err error) {
	l := p.local(cfg)
	if err := l.get(ctx, http.MethodGet, "/v1/versions", nil, new(versions.Report)); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "crossdock-upgrade-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	unpacked := store.In(dir)
	if version, err = unpacked.Add(from); err != nil {
		return "", err
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(unpacked.Send(version, write)) }()
	body, err := l.send(ctx, "/v1/versions/upgrade", read)
	read.Close() // ends Send where not all was read
	if err != nil {
		return "", err
	}
	defer body.Close()
	return version, json.NewDecoder(body).Decode(new(struct{}))
}

func (p *program) rollbackCommand() *cobra.Command {
	var why string
	c := &cobra.Command{
		Use: "rollback", Short: "Go back to the version that ran before", Args: cobra.NoArgs,
		Long: "Go back to the version that ran before.\n\n" +
			"A running agent goes back at once, another one when it starts. The version that is left is not tried again until the control\n" +
			"plane stages it anew, or somebody upgrades to it by hand.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, store, err := p.versions()
			if err != nil {
				return err
			}
			var answer struct {
				Version string `json:"version,omitempty"`
				State   string `json:"state"`
			}
			err = p.local(cfg).get(cmd.Context(), http.MethodPost, "/v1/versions/rollback", url.Values{"why": {why}}, &answer)
			if errors.Is(err, errNotRunning) {
				answer.State = "rolled back at the next start"
				answer.Version, err = versions.Stopped{Store: store, Data: cfg.Data, Installed: cfg.Version}.Rollback(why)
			}
			if err != nil {
				return conflicting(err)
			}
			return p.print(answer, func(w io.Writer) { fmt.Fprintln(w, answer.State) })
		},
	}
	c.Flags().StringVar(&why, "why", "rolled back by hand", "reason, for status and the control plane")
	return c
}

func (p *program) versionsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "versions", Short: "Show which versions are held here, and which one runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, store, err := p.versions()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			var report versions.Report
			err = p.local(cfg).get(ctx, http.MethodGet, "/v1/versions", nil, &report)
			if errors.Is(err, errNotRunning) {
				report, err = store.Report(cfg.Version, cfg.Upgrades.Attempts)
			}
			if err != nil {
				return err
			}
			return p.print(report, func(w io.Writer) { printVersions(w, report) })
		},
	}
}

func (p *program) versions() (agent.Config, *versions.Store, error) {
	cfg, err := p.load()
	if err != nil {
		return cfg, nil, err
	}
	store, err := cfg.Versions()
	return cfg, store, withCode(exitUsage, err)
}

func conflicting(err error) error {
	if refused := new(versions.ConflictError); errors.As(err, &refused) {
		return withCode(exitConflict, err)
	}
	return err
}

func printVersions(w io.Writer, r versions.Report) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	running := r.Running
	if running == "" {
		running = "nothing: the agent is not running here"
	}
	fmt.Fprintf(t, "running\t%s\ninstalled\t%s\na start runs\t%s\n", running, r.Installed, r.Current)
	if r.Previous != "" {
		fmt.Fprintf(t, "a rollback goes to\t%s\n", r.Previous)
	}
	if r.Trial != nil {
		fmt.Fprintf(t, "on trial\t%s, %s since %s\n", r.Trial.Version, doctor.Count(r.Trial.Starts, "start"), r.Trial.Since.Local().Format(time.DateTime))
	}
	if r.Status != nil && r.Status.Wanted != "" {
		fmt.Fprintf(t, "wanted\t%s\n", oneLine(releaseText(*r.Status)))
	}
	for _, h := range r.Held {
		fault := "verified"
		if h.Fault != "" {
			fault = h.Fault
		}
		fmt.Fprintf(t, "held\t%s, %s\n", h.Version, oneLine(fault))
	}
	for _, f := range r.Failed {
		fmt.Fprintf(t, "given up\t%s at %s: %s\n", f.Version, f.At.Local().Format(time.DateTime), oneLine(f.Why))
	}
	_ = t.Flush() // standard output
}

// releaseText says what the release that is wanted has come to; empty where none ever was.
func releaseText(s versions.Status) string {
	if s.Wanted == "" {
		return ""
	}
	text := fmt.Sprintf("%s, %s since %s", s.Wanted, s.State, s.Since.Local().Format(time.DateTime))
	if s.Why != "" {
		text += ": " + s.Why
	}
	return text
}

// send posts to the running agent what is read; the caller closes the answer.
func (l *local) send(ctx context.Context, path string, in io.Reader) (io.ReadCloser, error) {
	token, err := l.token()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(l.data, "ops.token"), err)
	}
	target := url.URL{Scheme: "http", Host: l.address, Path: path}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), in)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("hand the release to the agent on %s: %w", l.address, err)
	}
	if answer.StatusCode < 300 {
		return answer.Body, nil
	}
	defer answer.Body.Close()
	return nil, refusal(answer)
}
