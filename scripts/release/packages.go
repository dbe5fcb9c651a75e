package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // each is known by its name from then on
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// packages makes deb and rpm of both programs.
func (r *release) packages(p platform) error {
	for _, one := range programs {
		stage := filepath.Join(r.stage, one.name+"-"+p.arch)
		if err := os.MkdirAll(stage, 0o755); err != nil {
			return err
		}
		if err := r.prepare(one.name, stage); err != nil {
			return err
		}
		for _, kind := range []string{"deb", "rpm"} {
			if err := r.pack(p, one.name, kind, stage); err != nil {
				return fmt.Errorf("%s of %s: %w", kind, one.name, err)
			}
		}
	}
	return nil
}

// prepare writes what a package has beside its sources: maintainer scripts and changelog.
func (r *release) prepare(name, stage string) error {
	scripts, err := filepath.Glob(filepath.Join(r.top, "deploy", "packages", "scripts", "*"))
	if err != nil {
		return err
	}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			return err
		}
		text = bytes.ReplaceAll(text, []byte("@NAME@"), []byte(name))
		if err := os.WriteFile(filepath.Join(stage, filepath.Base(script)), text, 0o755); err != nil {
			return err
		}
	}
	news := fmt.Sprintf("%s (%s) stable; urgency=medium\n\n  * Version %s.\n\n -- The Crossdock project <packages@crossdock.invalid>  %s\n",
		name, packageVersion(r.version, r.epoch), r.version, r.epoch.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	return zipped(filepath.Join(stage, "changelog.gz"), []byte(news))
}

// pack makes one package.
func (r *release) pack(p platform, name, kind, stage string) error {
	text, err := os.ReadFile(filepath.Join(r.top, "deploy", "packages", name+".nfpm.yaml"))
	if err != nil {
		return err
	}
	known := map[string]string{"ARCH": p.arch, "VERSION": packageVersion(r.version, r.epoch), "BIN": r.bin(p), "TOP": r.top, "STAGE": stage}
	var unknown []string
	filled := os.Expand(string(text), func(key string) string {
		if known[key] == "" {
			unknown = append(unknown, key)
		}
		return known[key]
	})
	if len(unknown) > 0 {
		return fmt.Errorf("%s.nfpm.yaml names %s, which is not filled in", name, strings.Join(unknown, ", "))
	}
	config, err := nfpm.ParseWithEnvMapping(strings.NewReader(filled), func(string) string { return "" })
	if err != nil {
		return err
	}
	info, err := config.Get(kind)
	if err != nil {
		return err
	}
	info.MTime = r.epoch
	manuals, err := r.manuals(name, stage)
	if err != nil {
		return err
	}
	info.Contents = append(info.Contents, manuals...)
	for _, content := range info.Contents { // a folder's own time would be that of the build
		if content.FileInfo == nil {
			content.FileInfo = &files.ContentFileInfo{}
		}
		content.FileInfo.MTime = r.epoch
	}
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(kind)
	if err != nil {
		return err
	}
	file := packager.ConventionalFileName(info)
	if err := written(filepath.Join(r.out, file), func(w io.Writer) error { return packager.Package(info, w) }); err != nil {
		return err
	}
	return r.say(file)
}

// manuals are the man pages of a program, if there are any.
func (r *release) manuals(name, stage string) (out files.Contents, err error) {
	pages, err := filepath.Glob(filepath.Join(r.top, "deploy", "packages", "man", name, "*.[1-8]"))
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		packed := filepath.Base(page) + ".gz"
		if err := zipped(filepath.Join(stage, packed), text); err != nil {
			return nil, err
		}
		section := strings.TrimPrefix(filepath.Ext(page), ".")
		out = append(out, &files.Content{Source: filepath.Join(stage, packed), Destination: path.Join("/usr/share/man/man"+section, packed),
			FileInfo: &files.ContentFileInfo{Mode: 0o644}})
	}
	return out, nil
}

// zipped writes a file with gzip, without name and time.
func zipped(file string, text []byte) error {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}
