package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is one file or folder of an archive.
type entry struct {
	name  string // with slashes; a folder ends in one
	from  string // file that it is read from
	mode  int64
	owner int
}

// serviceUser owns what the container's program may write to; an image has no names of users.
const serviceUser = 65532

// bundle is what a site without internet carries to its server.
func (r *release) bundles(ctx context.Context, p platform) error {
	for _, one := range programs {
		top := one.name + "-" + strings.TrimPrefix(r.version, "v") + "-" + p.String()
		entries, err := r.bundled(ctx, p, one.name, top)
		if err != nil {
			return err
		}
		name, write := top+".tar.gz", writeTar
		if p.os == "windows" {
			name, write = top+".zip", writeZip
		}
		if err := write(filepath.Join(r.out, name), entries, r.epoch); err != nil {
			return err
		}
		if err := r.say(name); err != nil {
			return err
		}
	}
	return nil
}

// bundled lists what a bundle has.
func (r *release) bundled(ctx context.Context, p platform, program, top string) ([]entry, error) {
	packed := filepath.Join(r.top, "deploy", "packages")
	readme, err := r.help(ctx, program, "install")
	if err != nil {
		return nil, err
	}
	entries := []entry{
		{top + "/", "", 0o755, 0},
		{path.Join(top, p.exe(program)), filepath.Join(r.bin(p), p.exe(program)), 0o755, 0},
		{path.Join(top, "LICENSE"), filepath.Join(r.top, "LICENSE"), 0o644, 0},
		{path.Join(top, "README.md"), readme, 0o644, 0},
	}
	config := "controlplane.yaml"
	if program == "crossdock-agent" {
		config = "agent.yaml"
		names, err := r.plugins()
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{top + "/plugins/", "", 0o755, 0})
		for _, name := range names {
			name = p.exe(name)
			entries = append(entries, entry{path.Join(top, "plugins", name), filepath.Join(r.bin(p), "plugins", name), 0o755, 0})
		}
	}
	if program == "crossdock" {
		policy, err := r.example("hello", top)
		if err != nil {
			return nil, err
		}
		entries = append(entries, policy...)
	}
	entries = append(entries, entry{path.Join(top, config), filepath.Join(r.top, "deploy", "examples", config), 0o644, 0})
	if p.os == "linux" {
		for _, name := range []string{program + ".service", "50-crossdock.conf"} {
			entries = append(entries, entry{path.Join(top, name), filepath.Join(packed, name), 0o644, 0})
		}
	}
	return entries, nil
}

// example lists the files of a policy to begin with, as the handbook names them.
func (r *release) example(name, top string) ([]entry, error) {
	from := filepath.Join(r.top, "deploy", "examples", name)
	files, err := os.ReadDir(from)
	if err != nil {
		return nil, err
	}
	entries := []entry{{top + "/examples/", "", 0o755, 0}, {path.Join(top, "examples", name) + "/", "", 0o755, 0}}
	for _, f := range files {
		entries = append(entries, entry{path.Join(top, "examples", name, f.Name()), filepath.Join(from, f.Name()), 0o644, 0})
	}
	return entries, nil
}

// image is the root of the control plane's container image: one program, a folder for its
// state, one for what is temporary. The Containerfile adds it to nothing.
func (r *release) image(p platform) error {
	dir := filepath.Join(r.out, "container")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(r.top, "deploy", "packages", "container", "*"))
	if err != nil {
		return err
	}
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(source)), text, 0o644); err != nil {
			return err
		}
	}
	name := filepath.Join("container", "rootfs-"+p.arch+".tar.gz")
	err = writeTar(filepath.Join(r.out, name), []entry{
		{"etc/", "", 0o755, 0},
		{"etc/crossdock/", "", 0o755, 0},
		{"tmp/", "", 0o1777, 0},
		{"usr/", "", 0o755, 0},
		{"usr/bin/", "", 0o755, 0},
		{"usr/bin/crossdock", filepath.Join(r.bin(p), "crossdock"), 0o755, 0},
		{"var/", "", 0o755, 0},
		{"var/lib/", "", 0o755, 0},
		{"var/lib/crossdock/", "", 0o700, serviceUser},
	}, r.epoch)
	if err != nil {
		return err
	}
	return r.say(name)
}

func writeTar(file string, entries []entry, epoch time.Time) error {
	return written(file, func(w io.Writer) error {
		zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		archive := tar.NewWriter(zipped)
		for _, e := range sorted(entries) {
			if err := e.tar(archive, epoch); err != nil {
				return err
			}
		}
		if err := archive.Close(); err != nil {
			return err
		}
		return zipped.Close()
	})
}

func (e entry) tar(archive *tar.Writer, epoch time.Time) error {
	header := &tar.Header{Typeflag: tar.TypeDir, Name: e.name, Mode: e.mode, ModTime: epoch, Uid: e.owner, Gid: e.owner, Format: tar.FormatPAX}
	if e.from == "" {
		return archive.WriteHeader(header)
	}
	in, err := os.Open(e.from)
	if err != nil {
		return err
	}
	defer in.Close() // opened for reading
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(archive, in)
	return err
}

func writeZip(file string, entries []entry, epoch time.Time) error {
	return written(file, func(w io.Writer) error {
		archive := zip.NewWriter(w)
		for _, e := range sorted(entries) {
			header := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: epoch}
			header.SetMode(os.FileMode(e.mode))
			to, err := archive.CreateHeader(header)
			if err != nil {
				return err
			}
			if e.from == "" {
				continue
			}
			in, err := os.Open(e.from)
			if err != nil {
				return err
			}
			_, err = io.Copy(to, in)
			in.Close() // opened for reading
			if err != nil {
				return err
			}
		}
		return archive.Close()
	})
}

func sorted(entries []entry) []entry {
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries
}

// written makes a file of what do writes.
func written(file string, do func(io.Writer) error) (err error) {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	return do(out)
}
