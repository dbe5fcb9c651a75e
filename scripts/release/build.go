package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// programs are what is built, and where in the sources.
var programs = []struct{ name, source string }{
	{"crossdock", "./controlplane/cmd/crossdock"},
	{"crossdock-agent", "./agent/cmd/crossdock-agent"},
}

// plugins lists those of the tree: a plugin's folder is its program's name.
func (r *release) plugins() (names []string, err error) {
	for _, kind := range []string{"carrier-*", "tax-*"} {
		found, err := filepath.Glob(filepath.Join(r.top, "plugins", kind))
		if err != nil {
			return nil, err
		}
		for _, dir := range found {
			names = append(names, filepath.Base(dir))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s has no plugin: is it the folder of the sources?", filepath.Join(r.top, "plugins"))
	}
	slices.Sort(names)
	return names, nil
}

// bin is where the programs of a platform are.
func (r *release) bin(p platform) string { return filepath.Join(r.out, p.String()) }

// build compiles for one platform. What the environment says of flags would be in the bytes.
func (r *release) build(ctx context.Context, p platform) error {
	names, err := r.plugins()
	if err != nil {
		return err
	}
	var mains, beside []string
	for _, one := range programs {
		mains = append(mains, one.source)
	}
	for _, name := range names {
		beside = append(beside, "./plugins/"+name)
	}
	if err := r.compile(ctx, p, r.bin(p), mains); err != nil {
		return err
	}
	return r.compile(ctx, p, filepath.Join(r.bin(p), "plugins"), beside)
}

func (r *release) compile(ctx context.Context, p platform, to string, what []string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	// The stamp is what protocol/release finds in a program's file.
	link := "-s -w -buildid= -X main.version=" + r.version + " -X main.stamp=crossdock-release:" + r.version + ":of-this-program"
	if r.keys != "" {
		link += " -X main.releaseKeys=" + r.keys
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", link, "-o", to + string(filepath.Separator)}, what...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = r.top
	cmd.Env = goFor(p)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, strings.TrimSpace(string(text)))
	}
	return nil
}

// goFor is the environment in which the go command makes programs for a platform.
func goFor(p platform) []string {
	return append(os.Environ(), "GOOS="+p.os, "GOARCH="+p.arch, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
}

// help writes a page as a program shows it: what the page links to is not beside it where it is read.
// The program is one for this machine, whatever is built.
func (r *release) help(ctx context.Context, name, topic string) (file string, err error) {
	i := slices.IndexFunc(programs, func(one struct{ name, source string }) bool { return one.name == name })
	if i < 0 {
		return "", fmt.Errorf("there is no program %s", name)
	}
	cmd := exec.CommandContext(ctx, "go", "run", "-trimpath", "-buildvcs=false", "-mod=readonly", programs[i].source, "help", topic)
	cmd.Dir = r.top
	cmd.Env = goFor(platform{runtime.GOOS, runtime.GOARCH})
	var said strings.Builder
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s help %s: %w\n%s", name, topic, err, strings.TrimSpace(said.String()))
	}
	file = filepath.Join(r.stage, name+"-"+topic+".md")
	return file, os.WriteFile(file, text, 0o644)
}
