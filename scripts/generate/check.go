package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// compare makes everything in a copy of the tree and names what differs.
func compare(ctx context.Context, tree string) (err error) {
	names, err := listed(ctx, tree)
	if err != nil {
		return err
	}
	copied, err := os.MkdirTemp("", "generate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(copied)) }()
	before := map[string][]byte{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(tree, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return err
		}
		before[name] = text
		if err := os.MkdirAll(filepath.Dir(filepath.Join(copied, name)), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(copied, name), text, 0o600); err != nil {
			return err
		}
	}
	// Without the paths in what is compiled, the next copy finds it in the cache.
	if err := generate(ctx, copied, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -trimpath")); err != nil {
		return err
	}
	return stale(copied, before)
}

// listed are the files that git has or would take, and so none that was built.
func listed(ctx context.Context, tree string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir, cmd.Stderr = tree, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), nil
}

// stale names the files that are not as they were before.
func stale(tree string, before map[string][]byte) error {
	var found []error
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		now, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if was, had := before[filepath.ToSlash(name)]; !had || !bytes.Equal(unixLines(was), unixLines(now)) {
			found = append(found, fmt.Errorf("%s is not what its source gives: run `make generate`", filepath.ToSlash(name)))
		}
		return nil
	})
	return errors.Join(errors.Join(found...), err)
}

// unixLines undoes what a checkout on Windows may have changed.
func unixLines(text []byte) []byte { return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")) }
