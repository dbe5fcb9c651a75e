package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
)

// materials writes what the programs are made of, as the toolchain has noted it in each: every
// program with its sum, every module with its version, and which program has which.
func (r *release) materials() error {
	bom := cyclonedx.NewBOM()
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/crossdock/crossdock/release/"+r.version)).URN()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.epoch.Format(time.RFC3339),
		Component: &cyclonedx.Component{BOMRef: "crossdock", Type: cyclonedx.ComponentTypeApplication, Name: "crossdock", Version: r.version,
			Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}}},
	}
	files, err := r.files(func(name string) bool { return isProgram(name) })
	if err != nil {
		return err
	}
	modules := map[string]cyclonedx.Component{}
	var all []cyclonedx.Component
	depends := []cyclonedx.Dependency{{Ref: "crossdock", Dependencies: &files}}
	for _, name := range files {
		has, sum, err := r.linked(name, modules)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, cyclonedx.Component{BOMRef: name, Type: cyclonedx.ComponentTypeApplication, Name: name, Version: r.version,
			Hashes: &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: sum}}})
		depends = append(depends, cyclonedx.Dependency{Ref: name, Dependencies: &has})
	}
	for _, key := range slices.Sorted(maps.Keys(modules)) {
		all = append(all, modules[key])
	}
	bom.Components, bom.Dependencies = &all, &depends
	name := "crossdock-" + strings.TrimPrefix(r.version, "v") + ".cdx.json"
	err = written(filepath.Join(r.out, name), func(w io.Writer) error {
		return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	})
	if err != nil {
		return err
	}
	return r.say(name)
}

// isProgram tells the programs themselves from what they are packed in: they have a platform's
// folder to themselves.
func isProgram(name string) bool {
	platform, _, _ := strings.Cut(name, "/")
	return strings.Contains(name, "/") && platform != "container"
}

// linked notes the modules of a program.
func (r *release) linked(name string, modules map[string]cyclonedx.Component) (refs []string, sum string, err error) {
	file := filepath.Join(r.out, filepath.FromSlash(name))
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, "", err
	}
	toolchain := cyclonedx.Component{BOMRef: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), Type: cyclonedx.ComponentTypeLibrary,
		Name: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}
	found := []cyclonedx.Component{toolchain}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		found = append(found, cyclonedx.Component{BOMRef: "pkg:golang/" + m.Path + "@" + m.Version, Type: cyclonedx.ComponentTypeLibrary,
			Name: m.Path, Version: m.Version, Properties: &[]cyclonedx.Property{{Name: "go.sum", Value: m.Sum}}})
	}
	for _, c := range found {
		c.PackageURL = c.BOMRef
		modules[c.BOMRef] = c
		refs = append(refs, c.BOMRef)
	}
	slices.Sort(refs)
	sum, err = sumOf(file)
	return refs, sum, err
}

// sums writes SHA256SUMS over everything, as sha256sum -c reads it.
func (r *release) sums() error {
	names, err := r.files(func(name string) bool { return name != "SHA256SUMS" })
	if err != nil {
		return err
	}
	return written(filepath.Join(r.out, "SHA256SUMS"), func(w io.Writer) error {
		for _, name := range names {
			sum, err := sumOf(filepath.Join(r.out, filepath.FromSlash(name)))
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "%s  %s\n", sum, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// files lists what was made, sorted, with slashes.
func (r *release) files(want func(name string) bool) (names []string, err error) {
	err = filepath.WalkDir(r.out, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(r.out, file)
		if name = filepath.ToSlash(name); err == nil && want(name) {
			names = append(names, name)
		}
		return err
	})
	slices.Sort(names)
	return names, err
}

func sumOf(file string) (string, error) {
	in, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer in.Close() // opened for reading
	hash := sha256.New()
	if _, err := io.Copy(hash, in); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
