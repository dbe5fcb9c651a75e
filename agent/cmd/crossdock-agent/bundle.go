package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/bundle"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/logtail"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/policy"
)

const (
	bundleWait  = 10 * time.Second // for each answer of the running agent but the doctor's
	bundleLines = 5000             // of the log
)

func (p *program) bundleCommand() *cobra.Command {
	var file string
	var yes, withPolicy bool
	c := &cobra.Command{
		Use: "support-bundle", Short: "Collect what support needs into one file, without secrets and events", Args: cobra.NoArgs,
		Long: `Collect what support needs into one file, without secrets and events.

What would be written is listed first, and written only when you say so. The file is readable for you alone, and
nothing leaves this machine by itself. It works with a stopped agent and with a configuration that is wrong. The
values of secrets that can be read here are taken out of everything, the log included; look through the log lines
yourself if a plugin or a system may have said more than it should.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now().UTC()
			file, err := bundleTarget(file, now)
			if err != nil {
				return err
			}
			cfg, path, wrong := p.loadUnchecked()
			if data := cmd.Flag("data").Value.String(); data != "" { // where the file cannot be read too
				cfg.Data = data
			}
			b := p.collect(cmd.Context(), cfg, path, wrong, withPolicy)
			items := b.Items()
			listItems(p.err, items)
			if !yes && !agreed(p.err, p.in, file) {
				return errors.New("nothing was written")
			}
			if err := bundle.Write(file, items, now); err != nil {
				return err
			}
			fmt.Fprintln(p.out, file)
			return nil
		},
	}
	c.Flags().StringVarP(&file, "output", "o", "", "file to write, which must not be there, or the folder to put it into (default crossdock-support-TIME.zip)")
	c.Flags().BoolVar(&yes, "yes", false, "write without asking")
	c.Flags().BoolVar(&withPolicy, "policy", false, "put the documents of the policy in")
	return c
}

// bundleTarget is the file to write. What stands in its way is said before anything is collected:
// that takes a while.
func bundleTarget(file string, now time.Time) (string, error) {
	if file == "json" || file == "text" {
		return "", withCode(exitUsage, fmt.Errorf("-o names the file to write here, and no format: a file of that name is ./%s", file))
	}
	name := "crossdock-support-" + now.Format("20060102T150405Z") + ".zip"
	switch info, err := os.Stat(file); {
	case file == "":
		file = name
	case err == nil && info.IsDir():
		file = filepath.Join(file, name)
	}
	if _, err := os.Lstat(file); err == nil {
		return "", withCode(exitConflict, fmt.Errorf("%s is there already, and nothing is written over: name another file with -o, or a folder", file))
	}
	dir := filepath.Dir(file)
	probe, err := os.CreateTemp(dir, ".bundle-*")
	if err != nil {
		return "", fmt.Errorf("no file can be written into the folder %s (%w): name another one with -o", dir, reason(err))
	}
	return file, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// reason is what the system said, without the name of a file that nobody asked for.
func reason(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return at.Err
	}
	return err
}

func listItems(w io.Writer, items []bundle.Item) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tBYTES\tWHAT IT IS")
	for _, item := range items {
		fmt.Fprintf(t, "%s\t%d\t%s\n", item.Name, len(item.Text), item.What)
	}
	_ = t.Flush() // standard error
}

func agreed(w io.Writer, in io.Reader, file string) bool {
	fmt.Fprintf(w, "\nWrite this to %s? [y/N] ", file)
	line, err := bufio.NewReader(io.LimitReader(in, 100)).ReadString('\n')
	fmt.Fprintln(w)
	answer := strings.ToLower(strings.TrimSpace(line))
	return (err == nil || errors.Is(err, io.EOF)) && (answer == "y" || answer == "yes")
}

// collect asks the running agent and reads what is on disk; each part may be missing.
func (p *program) collect(ctx context.Context, cfg agent.Config, path string, wrong error, withPolicy bool) *bundle.Bundle {
	b := &bundle.Bundle{}
	hide(b, cfg)
	about, err := aboutText(cfg, path, wrong)
	b.Add("about.json", "versions, machine, time", about, err)
	if path != "" {
		text, err := os.ReadFile(path)
		b.Add("config.yaml", "the configuration; values that could be secret are masked", bundle.Configuration(text), err)
	}
	p.collectRunning(ctx, b, cfg)
	if wrong == nil {
		wrong = cfg.Validate()
	}
	report := doctor.NewReport(version, time.Now(), []doctor.Finding{misconfigured(errors.New("the configuration is wrong"))}) // whose lines may hold a secret
	if wrong == nil {
		report = p.examine(ctx, cfg)
	}
	text, err := json.MarshalIndent(report, "", "  ")
	b.Add("doctor.json", "what the doctor finds", text, err)
	head, rest, err := policyFile(filepath.Join(cfg.Data, "policy", "revision"))
	b.Add("policy.json", "which revision of policy is held, its digest", head, err)
	if withPolicy && err == nil {
		documents, err := policyText(rest)
		b.Add("policy.txt", "the documents of that revision", documents, err)
	}
	lines, err := logLines(ctx, cfg)
	b.Add("log.txt", fmt.Sprintf("the last %d lines of the log", bundleLines), lines, err)
	listing, err := bundle.Listing(cfg.Place())
	b.Add("files.txt", "names, sizes and modes below "+cfg.Place(), listing, err)
	return b
}

// hide tells the bundle of every secret that can be found here.
func hide(b *bundle.Bundle, cfg agent.Config) {
	secretsDir := cfg.Secrets
	if secretsDir == "" {
		secretsDir = filepath.Join(cfg.Data, "secrets")
	}
	b.SecretFiles(secretsDir, filepath.Join(cfg.Data, "ops.token"), filepath.Join(cfg.IdentityDir(), "key.pem"), filepath.Join(cfg.IdentityDir(), "key.new.pem"),
		filepath.Join(cfg.IdentityDir(), "sealing.key"))
	for _, value := range agent.KnownSecrets(cfg) {
		b.Secret(value)
	}
	if cfg.Intake.Key != "" {
		b.SecretFiles(cfg.Intake.Key)
	}
	if proxy, err := url.Parse(cfg.ControlPlane.Proxy); err == nil {
		password, _ := proxy.User.Password()
		b.Secret([]byte(password))
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		b.SecretFiles(dir)
	}
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		for _, word := range []string{"SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "APIKEY", "API_KEY"} {
			if strings.Contains(strings.ToUpper(name), word) {
				b.Secret([]byte(value))
			}
		}
	}
}

func aboutText(cfg agent.Config, path string, wrong error) ([]byte, error) {
	about := map[string]any{"program": "crossdock-agent", "version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
		"at": time.Now().UTC(), "configuration": path, "data": cfg.Place()}
	if wrong != nil {
		about["configurationWrong"] = "it cannot be read as it is: crossdock-agent config check shows the line" // which may hold a secret
	}
	if granted, err := identity.Held(cfg.IdentityDir()); err == nil {
		about["agent"], about["site"], about["cluster"], about["epoch"] = granted.Agent, granted.Site, granted.Cluster, granted.Epoch
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		var modules []string
		for _, m := range info.Deps {
			modules = append(modules, m.Path+" "+m.Version)
		}
		about["modules"] = slices.Sorted(slices.Values(modules))
	}
	return json.MarshalIndent(about, "", "  ")
}

// collectRunning asks the agent, if it runs, and looks into the stopped journal if not.
func (p *program) collectRunning(ctx context.Context, b *bundle.Bundle, cfg agent.Config) {
	for _, part := range []struct{ name, what, path string }{
		{"status.json", "link, queue, systems, plugins and numbers of the running agent", "/v1/status"},
		{"metrics.txt", "its metrics, as they are now", "/metrics"},
		{"goroutines.txt", "what its program does right now", "/v1/goroutines"},
	} {
		text, err := p.fetch(ctx, cfg, part.path)
		b.Add(part.name, part.what, text, err)
	}
	text, err := p.fetch(ctx, cfg, "/v1/queue")
	if errors.Is(err, errNotRunning) {
		var report queue.Report
		if err = journalIn(cfg.JournalDir()); err == nil {
			report, err = queue.Inspect(cfg.JournalDir())
		}
		if err == nil {
			text, err = json.MarshalIndent(report, "", "  ")
		}
	}
	b.Add("journal.json", "files, positions and lanes of the journal; no event", text, err)
}

func (p *program) fetch(ctx context.Context, cfg agent.Config, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, bundleWait)
	defer cancel()
	body, err := p.local(cfg).call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, 4*bundle.MaxItem))
}

// policyFile cuts the stored revision into its head and its documents, encoded.
func policyFile(path string) (head, rest []byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	head, rest, _ = bytes.Cut(text, []byte("\n"))
	if !json.Valid(head) {
		return nil, nil, fmt.Errorf("%s does not begin as a revision", path)
	}
	return head, rest, nil
}

// policyText gives the documents one after the other.
func policyText(encoded []byte) ([]byte, error) {
	held, err := policy.DecodeBundle(encoded)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(held)) {
		fmt.Fprintf(&out, "=== %s ===\n%s\n", name, held[name])
	}
	return out.Bytes(), nil
}

// logLines gives the end of the log, from where there is one, or why there is none.
func logLines(ctx context.Context, cfg agent.Config) ([]byte, error) {
	var out bytes.Buffer
	each := func(l logtail.Line) error {
		_, err := fmt.Fprintln(&out, l.String())
		return err
	}
	filter := logtail.Filter{Last: bundleLines, Level: -4}
	if cfg.Log.File != "" {
		err := logtail.Read(cfg.Log.File, filter, each)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("log.file is %s, and no agent has written there yet; until one is started with that, its log is where its standard error goes", cfg.Log.File)
		} else if err == nil && out.Len() == 0 {
			err = fmt.Errorf("%s, which log.file names, is empty", cfg.Log.File)
		}
		return out.Bytes(), err
	}
	const elsewhere = "the agent's log is where its standard error goes: add it by hand, or set log.file"
	if _, err := exec.LookPath("journalctl"); err != nil {
		return nil, errors.New("log.file is not set, and there is no journald here; " + elsewhere)
	}
	err := logtail.Journald(ctx, unitName, filter, false, each)
	if err == nil && out.Len() == 0 {
		err = fmt.Errorf("log.file is not set, and journald has no line of %s; where the agent does not run as that service, %s", unitName, elsewhere)
	}
	return out.Bytes(), err
}
