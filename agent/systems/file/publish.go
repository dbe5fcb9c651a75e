package filedriver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/event"
)

// Limits on watching.
const (
	DefaultInterval = 2 * time.Second
	maxPause        = time.Minute // between rounds that fail
	maxBatch        = 1000        // events given to the journal at once
	maxBatchBytes   = 8 << 20
	maxName         = 180 // bytes of a file name that is kept as it is
)

// stamp is what a file looked like in a scan. A file is complete when two scans in a row saw
// the same: the way that works on every share, and for producers that do not rename.
type stamp struct {
	size  int64
	mtime time.Time
}

// Publish is systems.Publisher: it watches the drop folder.
func (d *Driver) Publish(ctx context.Context, emit systems.Emit) error {
	if d.spec.Publish == nil {
		return systems.NotOffered(systems.OpPublish)
	}
	interval := d.spec.Publish.Interval
	if interval <= 0 {
		interval = DefaultInterval
	}
	pause, seen := interval, map[string]stamp{}
	for ctx.Err() == nil {
		next, err := d.round(ctx, seen, emit)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.opts.Metrics.Polls.WithLabelValues(d.system, "error").Inc()
			d.log.Warn("drop folder: round failed, will try again", "error", err, "pause", pause)
			pause = max(interval, min(pause*2, maxPause))
		default:
			d.opts.Metrics.Polls.WithLabelValues(d.system, "ok").Inc()
			pause, seen = interval, next
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// round finishes what lies in the work folder, then takes the files that the last scan saw
// just as they are now, oldest first. It stops at an error that may pass, to keep the order.
func (d *Driver) round(ctx context.Context, seen map[string]stamp, emit systems.Emit) (map[string]stamp, error) {
	root, err := d.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	for _, folder := range []string{d.drop, WorkFolder, ProcessedFolder, RejectedFolder} {
		if err := root.MkdirAll(filepath.FromSlash(folder), folderMode); err != nil {
			return nil, coded("folder "+folder, err)
		}
	}
	left, err := d.scan(root, WorkFolder)
	if err != nil {
		return nil, err
	}
	for _, f := range left {
		if err := d.process(ctx, root, f.name, emit); err != nil {
			return nil, err
		}
	}
	files, err := d.scan(root, d.drop)
	if err != nil {
		return nil, err
	}
	next := map[string]stamp{}
	for _, f := range files {
		before, known := seen[f.name]
		if !known || before != f.stamp {
			next[f.name] = f.stamp
			continue
		}
		work := path.Join(WorkFolder, f.name)
		if err := root.Rename(filepath.FromSlash(path.Join(d.drop, f.name)), filepath.FromSlash(work)); err != nil {
			// Taken away by its producer, or still held open on Windows: the next scan sees.
			d.log.Info("drop folder: file could not be picked up yet", "file", f.name, "error", err)
			next[f.name] = f.stamp
			continue
		}
		syncFolder(root, WorkFolder)
		if err := d.process(ctx, root, f.name, emit); err != nil {
			return nil, err
		}
	}
	return next, nil
}

type found struct {
	name string
	stamp
}

// scan lists the regular files of a folder that match the pattern, oldest first. Links and
// hidden files are left alone.
func (d *Driver) scan(root *os.Root, folder string) ([]found, error) {
	entries, err := readDir(root, folder)
	if err != nil {
		return nil, coded("folder "+folder, err)
	}
	var files []found
	for _, entry := range entries {
		name := entry.Name()
		if match, _ := path.Match(d.pattern, name); !match || strings.HasPrefix(name, ".") || entry.IsDir() {
			continue
		}
		info, err := root.Lstat(filepath.FromSlash(path.Join(folder, name)))
		if err != nil {
			continue // gone again
		}
		if !info.Mode().IsRegular() {
			d.log.Warn("drop folder: not a regular file, left alone", "file", name, "mode", info.Mode().Type().String())
			continue
		}
		files = append(files, found{name, stamp{info.Size(), info.ModTime()}})
	}
	slices.SortFunc(files, func(a, b found) int {
		return cmp.Or(a.mtime.Compare(b.mtime), strings.Compare(a.name, b.name))
	})
	return files, nil
}

// process takes one file out of the work folder: wholly into the journal, or wholly to the
// rejected ones. An error means that it stays and is tried again.
func (d *Driver) process(ctx context.Context, root *os.Root, name string, emit systems.Emit) error {
	content, at, err := readWhole(root, path.Join(WorkFolder, name))
	var large tooLarge
	if errors.As(err, &large) {
		return d.reject(ctx, root, name, fmt.Sprintf("%x", at.mtime.UnixNano()), []string{large.Error()})
	} else if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	digest := hex.EncodeToString(sum[:16])
	events, found := d.events(ctx, name, digest, at.mtime, content)
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(found.faults) > 0 {
		return d.reject(ctx, root, name, digest, reasons(found))
	}
	if refused, err := d.emitAll(ctx, emit, events, found.records); err != nil {
		return err
	} else if refused != nil {
		return d.reject(ctx, root, name, digest, refused)
	}
	d.opts.Metrics.Published.WithLabelValues(d.system).Add(float64(len(events)))
	if now, err := stampOf(root, path.Join(WorkFolder, name)); err != nil || now != at {
		// Its producer still held it open and wrote on. What it holds now is another content.
		return systems.Unavailablef("file %s was written to while it was read; it is read again", name)
	}
	if err := move(root, name, ProcessedFolder, finalName(root, ProcessedFolder, name, digest)); err != nil {
		return err
	}
	d.log.Info("drop folder: file taken", "file", name, "events", len(events))
	return nil
}

type tooLarge int64

func (t tooLarge) Error() string {
	return fmt.Sprintf("the file has %d bytes, the limit is %d; split it", int64(t), int64(MaxFile))
}

func stampOf(root *os.Root, name string) (stamp, error) {
	info, err := root.Lstat(filepath.FromSlash(name))
	if err != nil {
		return stamp{}, coded(name, err)
	}
	if !info.Mode().IsRegular() {
		return stamp{}, systems.Misconfiguredf("%s is not a regular file", name)
	}
	return stamp{info.Size(), info.ModTime()}, nil
}

// readWhole reads a file that does not change meanwhile.
func readWhole(root *os.Root, name string) ([]byte, stamp, error) {
	before, err := stampOf(root, name)
	if err != nil {
		return nil, stamp{}, err
	}
	if before.size > MaxFile {
		return nil, before, tooLarge(before.size)
	}
	file, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, stamp{}, coded(name, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err != nil {
		return nil, stamp{}, coded(name, err)
	}
	after, err := stampOf(root, name)
	if err != nil {
		return nil, stamp{}, err
	}
	if after != before || int64(len(content)) != before.size {
		return nil, stamp{}, systems.Unavailablef("file %s is still being written", name)
	}
	return content, before, nil
}

// events parses and maps the whole file before anything of it is handed on. Ids come from
// the content and the place in it, so the same file read again gives the same events.
func (d *Driver) events(ctx context.Context, name, digest string, mtime time.Time, content []byte) ([]*event.Event, *findings) {
	found := parse(d.spec.Publish.Format, content)
	events := make([]*event.Event, 0, len(found.records))
	for _, r := range found.records {
		if ctx.Err() != nil {
			return nil, found
		}
		data, err := mapRecord(ctx, d.spec.Publish.Map, r.data)
		if err != nil {
			found.fault(r.place, "%v", err)
			continue
		}
		e := &event.Event{
			ID:              fmt.Sprintf("%s-%d", digest, r.place),
			Source:          "file:" + url.PathEscape(d.system) + "/" + url.PathEscape(name),
			Type:            d.spec.Publish.Type,
			Time:            mtime.UTC(),
			DataContentType: event.JSONType,
			Data:            data,
		}
		if _, err := e.Marshal(); err != nil {
			found.fault(r.place, "%v", err)
			continue
		}
		events = append(events, e)
	}
	return events, found
}

// emitAll hands the events on in batches. refused gives the reasons when the journal will
// never take one of them.
func (d *Driver) emitAll(ctx context.Context, emit systems.Emit, events []*event.Event, records []record) (refused []string, err error) {
	for from := 0; from < len(events); {
		to := from
		for bytes := 0; to < len(events) && to-from < maxBatch && (to == from || bytes+len(events[to].Data) <= maxBatchBytes); to++ {
			bytes += len(events[to].Data)
		}
		err := emit(ctx, events[from:to])
		switch {
		case err == nil:
		case !systems.IsPermanent(err):
			return nil, fmt.Errorf("the events were not taken: %w", err)
		default:
			return refusal(err, records, from, to), nil
		}
		from = to
	}
	return nil, nil
}

// refusal says which record the journal refused, and which it has taken before.
func refusal(err error, records []record, from, to int) []string {
	first, last := records[from].place, records[to-1].place
	line := fmt.Sprintf("records at %d to %d: refused: %v", first, last, err)
	if i, known := systems.RefusedIndex(err); known && i >= 0 && from+i < to {
		line = fault{records[from+i].place, fmt.Sprintf("refused: %v", err)}.String()
	}
	out := []string{line}
	if from > 0 {
		out = append(out, fmt.Sprintf("records at %d to %d were taken before; remove them before the file is dropped again",
			records[0].place, records[from-1].place))
	}
	return out
}

func reasons(f *findings) []string {
	var out []string
	for _, one := range f.faults {
		out = append(out, one.String())
	}
	if f.more > 0 {
		out = append(out, fmt.Sprintf("and %d more", f.more))
	}
	return append(out, "nothing of this file was taken")
}

// reject moves a file to the rejected ones. The reasons are written first: after a crash
// between the two steps the file is read, and rejected, again.
func (d *Driver) reject(ctx context.Context, root *os.Root, name, digest string, why []string) error {
	final := finalName(root, RejectedFolder, name, digest)
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s was rejected at %s\n", name, d.opts.Now().UTC().Format(time.RFC3339))
	for _, line := range why {
		text.Write(systems.Clean([]byte(strings.ReplaceAll(line, "\n", " "))))
		text.WriteByte('\n')
	}
	if err := replace(ctx, root, path.Join(RejectedFolder, final+".error.txt"), text.Bytes()); err != nil {
		return err
	}
	if err := move(root, name, RejectedFolder, final); err != nil {
		return err
	}
	d.opts.Metrics.Refused.WithLabelValues(d.system).Inc()
	d.log.Error("drop folder: file rejected", "file", name, "reasons", path.Join(RejectedFolder, final+".error.txt"), "first", string(systems.Clean([]byte(why[0]))))
	return nil
}

// finalName gives the name under which a file is kept: its own if it is free and short,
// else one with its digest, which only the same content has.
func finalName(root *os.Root, folder, name, digest string) string {
	ext := path.Ext(name)
	if len(ext) > 16 {
		ext = ""
	}
	stem := strings.TrimSuffix(name, ext)
	short := strings.ToValidUTF8(stem[:min(len(stem), maxName-len(ext))], "_")
	if _, err := root.Lstat(filepath.FromSlash(path.Join(folder, name))); errors.Is(err, fs.ErrNotExist) && short == stem {
		return name
	}
	return short + "-" + digest[:min(len(digest), 16)] + ext
}

func move(root *os.Root, name, folder, final string) error {
	if err := root.Rename(filepath.FromSlash(path.Join(WorkFolder, name)), filepath.FromSlash(path.Join(folder, final))); err != nil {
		return coded(path.Join(folder, final), err)
	}
	syncFolder(root, folder)
	syncFolder(root, WorkFolder)
	return nil
}
