package agent

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/queue"
)

// examineConfig tells which file holds, and whether others may read what is secret in it.
func examineConfig(found Found) doctor.Finding {
	f := doctor.Finding{ID: "config", Level: doctor.OK, Seen: "no file: all is as by default, but for flags and environment"}
	if found.Config == "" {
		return f
	}
	f.Seen = found.Config + " is valid"
	return f
}

// examineData looks at the data directory: whose it is, its disk, and what is stored there.
func examineData(ctx context.Context, cfg Config, found Found) []doctor.Finding {
	secrets := doctor.Secrets(cfg.Secrets, cfg.Data)
	if _, err := os.Stat(cfg.Data); errors.Is(err, fs.ErrNotExist) { // who only looks makes none: it would be another's
		return []doctor.Finding{doctor.NoData(cfg.Place()), secrets}
	}
	findings := append(doctor.Private(cfg.Place()), secrets)
	findings = append(findings, doctor.Disk(cfg.Data, queue.FreeSpace(cfg.Data), int64(cfg.Journal.Quota))...)
	quiet, live := cfg.storeFiles(found.Running)
	findings = append(findings, doctor.Store(ctx, quiet, live, queue.CheckPages))
	if found.Running {
		return findings
	}
	if report, err := queue.Inspect(cfg.JournalDir()); err == nil && cfg.Journal.Quota > 0 { // else store tells of it
		findings = append(findings, doctor.QueueLevel(float64(report.Bytes)/float64(cfg.Journal.Quota), report.Bytes))
	}
	return findings
}

// storeFiles lists the files of the stores, those of most worth first, without those that a
// running agent writes.
func (c *Config) storeFiles(running bool) (quiet []string, live int) {
	var written []string
	for _, name := range []string{deliveryFile, numbersFile, callsFile} {
		if path := filepath.Join(c.Data, name); isFile(path) {
			written = append(written, path)
		}
	}
	segments, _ := filepath.Glob(filepath.Join(c.JournalDir(), "*.log")) // the pattern is well formed
	slices.SortFunc(segments, func(a, b string) int { return cmp.Compare(b, a) })
	if len(segments) > 0 {
		written, segments = append(written, segments[0]), segments[1:]
	}
	if running {
		return segments, len(written)
	}
	return append(written, segments...), 0
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
