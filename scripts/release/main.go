// Command release makes what people install: static programs for each platform, bundles, packages
// for Debian, rpm and Windows, what a container image needs, a bill of materials and the sums of all.
//
// It is a module of its own, so that nothing of it is in the programs' go.mod. It refuses to know
// what the programs do. Its invariant: the same commit, toolchain and version give the same bytes,
// wherever and whenever it runs; what it could not make it says, and with -require that is a failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// platforms are those of a release.
const platforms = "linux/amd64,linux/arm64,windows/amd64"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is one run.
type release struct {
	top     string // of the sources
	out     string // becomes dist
	stage   string // for what goes into packages and is not kept
	version string // as the programs say it
	keys    string // that agents trust for upgrades, built in
	epoch   time.Time
	targets []platform
	require bool
	log     io.Writer
	missing []string // what could not be made, and why
}

type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "-" + p.arch }

// exe is the name of a program there.
func (p platform) exe(name string) string {
	if p.os == "windows" {
		return name + ".exe"
	}
	return name
}

func run(ctx context.Context, args []string, log io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	top := flags.String("top", "../..", "folder of the sources")
	out := flags.String("out", "../../dist", "folder to write to; there is none yet, or it is empty")
	version := flags.String("version", "", "version that the programs say; default: what git describes")
	keys := flags.String("keys", "", "public keys that agents trust for upgrades, with commas")
	list := flags.String("platforms", platforms, "os/arch, with commas")
	require := flags.Bool("require", os.Getenv("REQUIRE") == "all", "fail where a tool is missing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := &release{version: *version, keys: *keys, require: *require, log: log}
	var err error
	if r.top, err = filepath.Abs(*top); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(*out); err != nil {
		return err
	}
	for _, one := range strings.Split(*list, ",") {
		system, arch, ok := strings.Cut(one, "/")
		if !ok {
			return fmt.Errorf("-platforms %s: it is os/arch, such as linux/amd64", one)
		}
		r.targets = append(r.targets, platform{system, arch})
	}
	if err := r.source(ctx); err != nil {
		return err
	}
	return r.make(ctx)
}

// source finds out which commit this is, and of when.
func (r *release) source(ctx context.Context) error {
	if r.version == "" {
		text, err := r.git(ctx, "describe", "--tags", "--always", "--dirty")
		if err != nil {
			return fmt.Errorf("%w: say with -version which version this is", err)
		}
		r.version = text
	}
	text, err := os.Getenv("SOURCE_DATE_EPOCH"), error(nil)
	if text == "" {
		if text, err = r.git(ctx, "log", "-1", "--format=%ct"); err != nil {
			return fmt.Errorf("%w: set SOURCE_DATE_EPOCH to the time of the commit", err)
		}
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds <= 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds since 1970", text)
	}
	r.epoch = time.Unix(seconds, 0).UTC()
	return nil
}

func (r *release) git(ctx context.Context, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, "git", append([]string{"-C", r.top}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(text)), nil
}

func (r *release) make(ctx context.Context) (err error) {
	if there, err := os.ReadDir(r.out); err == nil && len(there) > 0 {
		return fmt.Errorf("%s is not empty: remove it first", r.out)
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if r.stage, err = os.MkdirTemp("", "crossdock-release-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.stage)
	for _, p := range r.targets {
		if err := r.platform(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	if err := r.materials(); err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	if err := r.sums(); err != nil {
		return err
	}
	for _, m := range r.missing {
		fmt.Fprintln(r.log, m)
	}
	if r.require && len(r.missing) > 0 {
		return errors.New("not all of the release was made")
	}
	return nil
}

// platform makes everything for one platform.
func (r *release) platform(ctx context.Context, p platform) error {
	if err := r.build(ctx, p); err != nil {
		return err
	}
	if err := r.bundles(ctx, p); err != nil {
		return err
	}
	switch p.os {
	case "linux":
		if err := r.image(p); err != nil {
			return err
		}
		return r.packages(p)
	case "windows":
		return r.installer(ctx, p)
	}
	return nil
}

// say notes what was made.
func (r *release) say(name string) error {
	info, err := os.Stat(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	fmt.Fprintf(r.log, "%6.1f MB  %s\n", float64(info.Size())/(1<<20), name)
	return nil
}
