// Command fuzz gives the fuzz targets of the tree their time and keeps a record: which
// target ran for how long, with how many executions, on which commit.
//
// It owns the record and the choice of what runs next, and refuses to know what a target
// does. Its invariant: no target is run that the tree does not have, and none is forgotten:
// they are found in the sources, not listed.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/scripts/record"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

// roots are where the targets of this module stand.
var roots = []string{"agent", "controlplane", "plugins", "protocol", "deploy", "scripts"}

// exposed are the folders whose targets come first: what strangers reach, then what a
// system, an agent or a node can say, then what operators write. The rest comes last.
var exposed = []string{"agent/intake", "protocol/transport", "controlplane/pki", "controlplane/gateway", "protocol/syncpb",
	"controlplane/api", "controlplane/peer", "protocol/strictjson", "protocol/event", "protocol/block", "controlplane/state",
	"agent/systems", "plugins/sdk", "protocol/expr", "protocol/contract", "protocol/policy"}

// target is one fuzz function.
type target struct {
	dir  string // slash path from the top
	name string
}

func (t target) String() string { return t.dir + "." + t.name }

func (t target) rank() int {
	for i, dir := range exposed {
		if t.dir == dir || strings.HasPrefix(t.dir, dir+"/") {
			return i
		}
	}
	return len(exposed)
}

// run fuzzes what was asked for, or sums the record up.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	names := flags.String("target", "", "folder.Name of a target, several with commas between; empty: the one that had the least time so far")
	lasts := flags.Duration("for", 10*time.Minute, "how long each runs")
	each := flags.Bool("each", false, "every target, without a record")
	sum := flags.Bool("sum", false, "run nothing, show what each target had")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *each && *names != "" {
		return errors.New("either -each or -target")
	}
	all, err := targets(os.DirFS("."))
	if err != nil {
		return err
	}
	past, err := read(recordFile)
	if err != nil {
		return err
	}
	if *sum {
		return sumUp(all, past, out)
	}
	if *each {
		var failed error
		for _, t := range all {
			_, err := t.fuzz(ctx, *lasts, out)
			if failed = errors.Join(failed, err); ctx.Err() != nil {
				return failed
			}
		}
		return failed
	}
	chosen, err := choose(all, past, *names)
	if err != nil {
		return err
	}
	for _, t := range chosen {
		tested := record.Commit(filepath.ToSlash(recordFile), "**/testdata/fuzz/**") // what is changed while it runs is not tested
		did, failed := t.fuzz(ctx, *lasts, out)
		err := record.Append(recordFile, line{At: time.Now().UTC().Truncate(time.Second), Commit: tested, Target: t.String(),
			Seconds: did.seconds, Executions: did.executions, Failed: failed != nil && ctx.Err() == nil}) // one that was broken off has found nothing
		if err := errors.Join(failed, err); err != nil {
			return err
		}
		if err := t.keep(ctx); err != nil {
			return err
		}
	}
	return nil
}

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(`)

// targets finds every target below a folder, the most exposed first.
func targets(top fs.FS) ([]target, error) {
	var out []target
	for _, root := range roots {
		err := fs.WalkDir(top, root, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && p == root {
				return nil
			}
			if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
				return err
			}
			text, err := fs.ReadFile(top, p)
			for _, found := range declaration.FindAllSubmatch(text, -1) {
				out = append(out, target{path.Dir(p), string(found[1])})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no fuzz target found: run it at the top of the tree")
	}
	slices.SortFunc(out, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.String(), b.String()))
	})
	return out, nil
}

// choose finds the targets by name, or the one that had the least time.
func choose(all []target, past []line, names string) ([]target, error) {
	if names == "" {
		had := times(past)
		return []target{slices.MinFunc(all, func(a, b target) int {
			return cmp.Compare(had[a.String()].seconds, had[b.String()].seconds)
		})}, nil
	}
	var out []target
	for name := range strings.SplitSeq(names, ",") {
		at := slices.IndexFunc(all, func(t target) bool { return t.String() == name })
		if at < 0 {
			return nil, fmt.Errorf("there is no target %q; `make fuzz-record` lists them", name)
		}
		out = append(out, all[at])
	}
	return out, nil
}

// Of the inputs that a run found interesting, this many stay with the sources.
const (
	maxKept     = 24
	maxKeptSize = 2 << 10
)

// keep copies inputs that were found interesting beside the test, where each later test
// runs them: as different in size as they come, until there are enough.
func (t target) keep(ctx context.Context) error {
	from, err := t.cache(ctx)
	if err != nil {
		return err
	}
	found, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it found nothing that its seeds had not
	}
	if err != nil {
		return err
	}
	to := filepath.Join(filepath.FromSlash(t.dir), "testdata", "fuzz", t.name)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	kept, err := os.ReadDir(to)
	if err != nil {
		return err
	}
	for _, name := range spread(found, maxKept-len(kept)) {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// spread takes at most n of the files that are small enough, evenly from the smallest to the
// largest.
func spread(files []fs.DirEntry, n int) (out []string) {
	sizes := map[string]int64{}
	for _, f := range files {
		if info, err := f.Info(); err == nil && info.Size() <= maxKeptSize {
			sizes[f.Name()] = info.Size()
			out = append(out, f.Name())
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(cmp.Compare(sizes[a], sizes[b]), cmp.Compare(a, b)) })
	if n <= 0 {
		return nil
	}
	if len(out) <= n {
		return out
	}
	taken := make([]string, n)
	for i := range taken {
		taken[i] = out[i*len(out)/n]
	}
	return taken
}
