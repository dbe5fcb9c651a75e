package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/release"
)

// carriedName is the file of a signed release that is carried to a site of a platform.
func carriedName(version, system, arch string) string {
	return release.Agent + "-upgrade-" + version + "-" + system + "-" + arch + ".tar.gz"
}

// writeCarried makes, for each platform, one file of manifest, signature and the agent's program:
// what crossdock-agent upgrade takes at a site without a line. The same release gives the same bytes.
func writeCarried(dir string, m *release.Manifest, manifest, signature []byte) (names []string, err error) {
	for _, f := range m.Files {
		if f.Name != release.Agent {
			continue
		}
		text, err := carried(dir, f, manifest, signature)
		if err != nil {
			return nil, err
		}
		name := carriedName(m.Version, f.OS, f.Arch)
		if err := atomicfile.Write(filepath.Join(dir, name), text, 0o644); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func carried(dir string, f release.File, manifest, signature []byte) ([]byte, error) {
	path, err := programIn(dir, f.Name, f.OS, f.Arch)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(program); hex.EncodeToString(sum[:]) != f.SHA256 {
		return nil, fmt.Errorf("%s was changed while it was signed: sign again", path)
	}
	var text bytes.Buffer
	zipped := gzip.NewWriter(&text)
	archive := tar.NewWriter(zipped)
	for _, e := range []struct {
		name string
		mode int64
		text []byte
	}{{release.ManifestFile, 0o644, manifest}, {release.SignatureFile, 0o644, signature}, {filepath.Base(path), 0o755, program}} {
		if err := archive.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text))}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(e.text); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}
