package world

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Programs is the directory with what Build made, and where that is made of.
type Programs struct{ dir, sources string }

// Dir has the programs.
func (p Programs) Dir() string { return p.dir }

// Path of a program.
func (p Programs) Path(name string) string { return filepath.Join(p.dir, name) }

// Source is the path of something that is shipped beside programs, from the top of the tree.
func (p Programs) Source(name string) string { return filepath.Join(p.sources, name) }

// Build makes the programs as `make build` does, and the NATS server from the version that
// this module names. It must be called in this module's directory.
func Build(ctx context.Context, dir string) (Programs, error) {
	ours, err := goCommand(ctx, ".", "list", "-m", "-f", "{{.Dir}}", "github.com/crossdock/crossdock")
	p := Programs{dir: dir, sources: strings.TrimSpace(ours)}
	if err != nil {
		return p, err
	}
	if _, err := goCommand(ctx, p.sources, "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/",
		"./controlplane/cmd/crossdock", "./agent/cmd/crossdock-agent", "./plugins/carrier-zone", "./plugins/tax-table"); err != nil {
		return p, err
	}
	_, err = goCommand(ctx, ".", "build", "-trimpath", "-ldflags", "-s -w", "-o", p.Path("nats-server"), "github.com/nats-io/nats-server/v2")
	return p, err
}

func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return string(out), nil
}
