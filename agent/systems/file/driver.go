// Package filedriver owns the exchange of files with a system: a drop folder whose files
// become events, and a folder into which deliveries are written.
//
// It refuses to know what the records mean beyond the map that the System document gives.
// Its invariants: everything stays below the declared directory, links included; a file is
// taken wholly or rejected wholly with its reasons beside it, and leaves the work folder only
// after the journal holds its events; the same file gives the same events again; and a
// delivery stands under its name complete or not at all.
package filedriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Folders below the directory. Files are dropped into the directory itself, or into the
// folder that the pattern names.
const (
	WorkFolder      = "work"      // being read; what a crash left here is read again
	ProcessedFolder = "processed" // every record is in the journal
	RejectedFolder  = "rejected"  // with NAME.error.txt beside NAME
	OutFolder       = "out"       // deliveries, unless the document names another folder
)

const folderMode = 0o770

// Driver is one system that exchanges files. It is safe for concurrent use.
type Driver struct {
	system  string
	spec    policy.FileDriver
	drop    string // folder watched, slash path below the directory
	pattern string
	out     string
	opts    systems.Options
	log     *slog.Logger

	afterEffect func() // tests stop the driver between a delivery's rename and its answer
}

var (
	_ systems.Driver    = (*Driver)(nil)
	_ systems.Examiner  = (*Driver)(nil)
	_ systems.Deliverer = (*Driver)(nil)
	_ systems.Publisher = (*Driver)(nil)
)

// New makes the driver of a System document. It touches no file: a share that is not mounted
// yet shows in Check and mends itself.
func New(sys *policy.System, opts systems.Options) (*Driver, error) {
	if sys.File == nil {
		return nil, systems.Misconfiguredf("system %s has no file driver", sys.Name)
	}
	opts = opts.WithDefaults()
	d := &Driver{system: sys.Name, spec: *sys.File, opts: opts, log: opts.Logger.With("system", sys.Name, "driver", "file")}
	d.afterEffect = func() {}
	if !filepath.IsAbs(d.spec.Directory) {
		return nil, systems.Misconfiguredf("system %s: directory %q must be an absolute path on the site's server", sys.Name, d.spec.Directory)
	}
	if p := d.spec.Publish; p != nil {
		d.drop, d.pattern = path.Dir(path.Clean(p.Pattern)), path.Base(p.Pattern)
		if err := d.checkPublish(p); err != nil {
			return nil, fmt.Errorf("system %s: %w", sys.Name, err)
		}
	}
	if f := d.spec.Deliver; f != nil {
		if d.out = OutFolder; f.Folder != "" {
			d.out = path.Clean(filepath.ToSlash(f.Folder))
		}
		if !local(d.out) || d.out == "." || reserved(d.out) || d.spec.Publish != nil && d.out == d.drop {
			return nil, systems.Misconfiguredf("system %s: deliver folder %q must be a folder of its own below the directory", sys.Name, f.Folder)
		}
	}
	return d, nil
}

func (d *Driver) checkPublish(p *policy.FilePublish) error {
	if _, err := path.Match(d.pattern, ""); err != nil || p.Pattern == "" {
		return systems.Misconfiguredf("pattern %q is malformed; write it like *.csv", p.Pattern)
	}
	if !local(d.drop) || reserved(d.drop) || strings.ContainsAny(d.drop, "*?[") {
		return systems.Misconfiguredf("pattern %q must name files in the directory, or in one folder below it that is not %s, %s or %s",
			p.Pattern, WorkFolder, ProcessedFolder, RejectedFolder)
	}
	if parsers[p.Format] == nil {
		return systems.Misconfiguredf("format %q is unknown; it is json, jsonl or csv", p.Format)
	}
	if p.Type == "" {
		return systems.Misconfiguredf("publish needs the type of its events")
	}
	return nil
}

func local(folder string) bool { return filepath.IsLocal(filepath.FromSlash(folder)) }

func reserved(folder string) bool {
	top, _, _ := strings.Cut(folder, "/")
	return top == WorkFolder || top == ProcessedFolder || top == RejectedFolder
}

// Operations is what the document declares.
func (d *Driver) Operations() []systems.Operation {
	var ops []systems.Operation
	if d.spec.Publish != nil {
		ops = append(ops, systems.OpPublish)
	}
	if d.spec.Deliver != nil {
		ops = append(ops, systems.OpDeliver)
	}
	return ops
}

// Check is systems.Driver: it looks at the directory and changes nothing.
func (d *Driver) Check(ctx context.Context) error {
	return systems.CheckFindings(d.Examine(ctx))
}

// Examine is systems.Examiner.
func (d *Driver) Examine(ctx context.Context) []systems.Finding {
	f := systems.Finding{Name: "directory " + d.spec.Directory}
	root, err := d.open()
	if err != nil {
		f.Seen, f.Todo = err.Error(), "create or mount the directory, owned by the user that runs the agent"
		return []systems.Finding{f}
	}
	defer root.Close()
	if err := writable(d.spec.Directory); err != nil {
		f.Seen, f.Todo = err.Error(), "let the user that runs the agent write there: it makes its folders in it, and moves files between them"
		return []systems.Finding{f}
	}
	f.OK, f.Seen = true, "exists"
	findings := []systems.Finding{f}
	for _, folder := range []string{d.drop, WorkFolder, ProcessedFolder, RejectedFolder, d.out} {
		if folder != "" && ctx.Err() == nil {
			findings = append(findings, examineFolder(root, folder))
		}
	}
	return findings
}

func examineFolder(root *os.Root, folder string) systems.Finding {
	f := systems.Finding{Name: "folder " + folder, OK: true}
	entries, err := readDir(root, folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Seen = "not there yet; the driver makes it"
	case err != nil:
		f.OK, f.Seen, f.Todo = false, err.Error(), "let the user that runs the agent read and write it"
	default:
		f.Seen = fmt.Sprintf("%d files", len(entries))
		if err := writable(filepath.Join(root.Name(), filepath.FromSlash(folder))); err != nil {
			f.OK, f.Seen, f.Todo = false, err.Error(), "let the user that runs the agent write there: files are moved out of it or written into it"
			return f
		}
		if folder == RejectedFolder && len(entries) > 0 {
			f.Todo = "read the .error.txt files, correct the files, drop them again"
		}
	}
	return f
}

// Close is systems.Driver; nothing is held between two rounds.
func (d *Driver) Close() error { return nil }

// open opens the directory for one round or delivery, so that a share may come and go.
func (d *Driver) open() (*os.Root, error) {
	if err := d.checkPrivate(); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(d.spec.Directory)
	if err != nil {
		return nil, coded("directory "+d.spec.Directory, err)
	}
	return root, nil
}

// checkPrivate refuses a directory of the agent's own, and folders that lead into one: its
// keys and secrets would go out as events, and deliveries would come in among them.
func (d *Driver) checkPrivate() error {
	if len(d.opts.Private) == 0 {
		return nil
	}
	at, err := filepath.EvalSymlinks(d.spec.Directory)
	if err != nil {
		at = d.spec.Directory // not mounted yet, or not to be resolved
	}
	paths := []string{d.spec.Directory}
	for _, folder := range []string{d.drop, d.out, WorkFolder, ProcessedFolder, RejectedFolder} {
		paths = append(paths, filepath.Join(at, filepath.FromSlash(folder)))
	}
	for _, path := range paths {
		in, err := systems.Below(path, d.opts.Private...)
		if err != nil {
			return coded("directory "+d.spec.Directory, err)
		}
		if in != "" {
			return systems.Misconfiguredf("system %s: %s is below %s, which is the agent's own; give the system a directory elsewhere", d.system, path, in)
		}
	}
	return nil
}

func readDir(root *os.Root, folder string) ([]fs.DirEntry, error) {
	dir, err := root.Open(filepath.FromSlash(folder))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.ReadDir(-1)
}

// coded finds the class of a failed file operation. It keeps no path outside the directory.
func coded(what string, err error) *systems.Error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return systems.Misconfiguredf("%s: %w; let the user that runs the agent read and write it", what, err)
	case strings.Contains(err.Error(), "escapes"):
		return systems.Misconfiguredf("%s: %w; a link may not lead out of the directory", what, err)
	case errors.Is(err, fs.ErrNotExist):
		return systems.Unavailablef("%s: %w; is the share mounted?", what, err)
	}
	return systems.Unavailablef("%s: %w", what, err)
}

// syncFolder makes a rename in a folder durable. Windows does it with the rename, and some
// network shares cannot; then a power cut repeats the step, which is harmless.
func syncFolder(root *os.Root, folder string) {
	if runtime.GOOS == "windows" {
		return
	}
	if dir, err := root.Open(filepath.FromSlash(folder)); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
}
