// Package release owns what both sides agree on about a release: the manifest that lists its
// files, the minisign signature over it, and which of two versions is the later one.
//
// It refuses to know where files are kept, how they travel and who wants them. Its invariant:
// a manifest comes out of Parse only if one of the given keys signed exactly these bytes, and
// nothing but these bytes decides what is in it; no network and no clock is asked.
package release

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Format is the shape of manifest that is written and read here.
const Format = 1

// Limits. They hold before anything is allocated for what a manifest says.
const (
	MaxManifest  = 64 << 10
	MaxSignature = 2 << 10
	MaxFiles     = 64
	MaxFile      = 256 << 20 // bytes of one file
	MaxName      = 64        // bytes of a file's name
	MaxVersion   = 64        // bytes of a version
)

// Agent is the name under which a manifest lists the agent's program.
const Agent = "crossdock-agent"

// ManifestFile and SignatureFile are what stands beside the files of a release.
const (
	ManifestFile  = "manifest.json"
	SignatureFile = ManifestFile + ".minisig"
)

// ErrManifest is wrapped by everything that is wrong with the text of a manifest.
var ErrManifest = errors.New("the release's manifest is not valid")

// Manifest lists what a release consists of.
type Manifest struct {
	Format   int       `json:"format"`
	Version  string    `json:"version"`
	Protocol *Protocol `json:"protocol,omitempty"`
	Files    []File    `json:"files"`
}

// Protocol is the span of sync protocol versions that the programs speak, both ends included.
type Protocol struct {
	Min uint32 `json:"min"`
	Max uint32 `json:"max"`
}

// File is one program for one platform.
type File struct {
	Name   string `json:"name"` // of the program, without .exe
	OS     string `json:"os"`   // as GOOS
	Arch   string `json:"arch"` // as GOARCH
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // lower-case hex
}

// File finds a program for a platform.
func (m *Manifest) File(name, os, arch string) (File, bool) {
	for _, f := range m.Files {
		if f.Name == name && f.OS == os && f.Arch == arch {
			return f, true
		}
	}
	return File{}, false
}

// Size is the bytes of all files; a file that is listed for two platforms counts once.
func (m *Manifest) Size() int64 {
	seen, sum := map[string]bool{}, int64(0)
	for _, f := range m.Files {
		if !seen[f.SHA256] {
			seen[f.SHA256] = true
			sum += f.Size
		}
	}
	return sum
}

// Encode writes a manifest as Sign expects it and people can read it.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// read takes the text of a manifest. But for white space it must be as Encode writes it: so
// there are no unknown members, none twice, none in another case, and one meaning only.
func read(text []byte) (*Manifest, error) {
	if len(text) > MaxManifest {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrManifest, len(text), MaxManifest)
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the JSON object", ErrManifest)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	var given bytes.Buffer
	if err := json.Compact(&given, text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if written, err := json.Marshal(m); err != nil || !bytes.Equal(given.Bytes(), written) {
		return nil, fmt.Errorf("%w: its members are not those of format %d, each once and in their order", ErrManifest, Format)
	}
	return m, nil
}

func (m *Manifest) check() error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("%w: it has format %d, only %d is known here: this program is too old for it", ErrManifest, m.Format, Format)
	case !ValidVersion(m.Version):
		return fmt.Errorf("%w: %q is not a version like 1.4.0, v1.4-rc.1 or v1.4-5-gabcdef0", ErrManifest, short(m.Version))
	case m.Protocol != nil && (m.Protocol.Min == 0 || m.Protocol.Max < m.Protocol.Min):
		return fmt.Errorf("%w: protocol %d to %d is no span", ErrManifest, m.Protocol.Min, m.Protocol.Max)
	case len(m.Files) == 0:
		return fmt.Errorf("%w: it lists no files", ErrManifest)
	case len(m.Files) > MaxFiles:
		return fmt.Errorf("%w: it lists %d files, the limit is %d", ErrManifest, len(m.Files), MaxFiles)
	}
	type program struct{ name, os, arch string }
	listed, sizes := map[program]bool{}, map[string]int64{}
	for i, f := range m.Files {
		if err := f.check(); err != nil {
			return fmt.Errorf("%w: files[%d]: %w", ErrManifest, i, err)
		}
		p := program{f.Name, f.OS, f.Arch}
		if listed[p] {
			return fmt.Errorf("%w: files[%d]: %s for %s/%s is listed twice", ErrManifest, i, f.Name, f.OS, f.Arch)
		}
		listed[p] = true
		if size, ok := sizes[f.SHA256]; ok && size != f.Size {
			return fmt.Errorf("%w: files[%d]: another file has this sha256 and not this size", ErrManifest, i)
		}
		sizes[f.SHA256] = f.Size
	}
	return nil
}

var (
	nameForm     = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*$`)
	platformForm = regexp.MustCompile(`^[a-z0-9]{1,16}$`)
)

func (f File) check() error {
	switch {
	case len(f.Name) > MaxName || !nameForm.MatchString(f.Name):
		return fmt.Errorf("the name %q is not of lower-case letters, digits and single . _ - between them, at most %d", short(f.Name), MaxName)
	case !platformForm.MatchString(f.OS) || !platformForm.MatchString(f.Arch):
		return fmt.Errorf("%q/%q is no platform like linux/amd64", short(f.OS), short(f.Arch))
	case f.Size <= 0 || f.Size > MaxFile:
		return fmt.Errorf("%s has %d bytes; the limits are 1 and %d", f.Name, f.Size, MaxFile)
	case !ValidHash(f.SHA256):
		return fmt.Errorf("%q is no SHA-256 in lower-case hex", short(f.SHA256))
	}
	return nil
}

// ValidHash says that text is a SHA-256 as manifests have it.
func ValidHash(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 32 && strings.ToLower(text) == text
}

// short is text from outside for a message.
func short(text string) string {
	const most = 80
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
