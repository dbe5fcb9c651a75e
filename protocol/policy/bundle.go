package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Limits on a bundle. MaxBundle is what one command of the control plane can carry.
const (
	MaxBundle = 768 << 10 // bytes encoded
	MaxOpened = 8 << 20   // bytes of all paths and contents
	MaxFile   = 1 << 20   // bytes of one file
	MaxFiles  = 4096
	maxPath   = 512
)

// ErrBundle marks bytes or files that are not a policy bundle.
var ErrBundle = errors.New("not a policy bundle")

// Bundle is the files of one policy: slash path to content.
type Bundle map[string][]byte

// documentFile tells the files with documents; the others are what documents refer to.
func documentFile(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

func bundleFile(name string) bool {
	return documentFile(name) || strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".jq")
}

// ReadBundle reads the policy files (.yaml, .yml, .json, .jq) of a folder and what is below
// it. Names that begin with a dot are passed over, and so is every other file.
func ReadBundle(fsys fs.FS) (Bundle, error) {
	b, total := Bundle{}, 0
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name != "." && strings.HasPrefix(path.Base(name), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir() || !bundleFile(name):
			return nil
		}
		content, err := readFile(fsys, name)
		if err != nil {
			return err
		}
		b[name] = content
		if total += len(name) + len(content); total > MaxOpened || len(b) > MaxFiles {
			return fmt.Errorf("%w: more than %d files or %d bytes", ErrBundle, MaxFiles, MaxOpened)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("read policy: %w: no .yaml file in the folder", ErrBundle)
	}
	return b, nil
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	content, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(content) > MaxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrBundle, name, MaxFile)
	}
	return content, nil
}

var bundleMagic = []byte("XDP1")

// A zstd coder is costly to make and safe to share for EncodeAll and DecodeAll.
var bundleCoders = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // options are constants
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxOpened+MaxFiles*16), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		panic(err)
	}
	return enc, dec
})

// Encode writes the bundle: the magic, then zstd over paths and contents in the order of
// paths. The same bundle gives the same bytes. Compile says when they are too many.
func (b Bundle) Encode() []byte {
	var plain []byte
	for _, name := range slices.Sorted(maps.Keys(b)) {
		plain = binary.AppendUvarint(plain, uint64(len(name)))
		plain = append(plain, name...)
		plain = binary.AppendUvarint(plain, uint64(len(b[name])))
		plain = append(plain, b[name]...)
	}
	enc, _ := bundleCoders()
	return enc.EncodeAll(plain, bytes.Clone(bundleMagic))
}

// DecodeBundle reads what Encode wrote, within the limits.
func DecodeBundle(text []byte) (Bundle, error) {
	if len(text) > MaxBundle {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrBundle, len(text), MaxBundle)
	}
	packed, ok := bytes.CutPrefix(text, bundleMagic)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrBundle)
	}
	_, dec := bundleCoders()
	plain, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBundle, err)
	}
	b, last := Bundle{}, ""
	for len(plain) > 0 {
		var name, content []byte
		if name, plain, err = cut(plain, maxPath); err != nil {
			return nil, err
		}
		if content, plain, err = cut(plain, MaxFile); err != nil {
			return nil, err
		}
		if !fs.ValidPath(string(name)) || string(name) <= last || len(b) >= MaxFiles {
			return nil, fmt.Errorf("%w: path %.80q is not valid, out of order, or one too many", ErrBundle, name)
		}
		last = string(name)
		b[last] = bytes.Clone(content)
	}
	return b, nil
}

func cut(plain []byte, limit uint64) (part, rest []byte, err error) {
	size, n := binary.Uvarint(plain)
	if n <= 0 || size > limit || size > uint64(len(plain)-n) {
		return nil, nil, fmt.Errorf("%w: cut short, or a part is too long", ErrBundle)
	}
	return plain[n : n+int(size)], plain[n+int(size):], nil
}

// Digest names the content: it covers paths and contents, not how they are compressed.
func (b Bundle) Digest() [32]byte {
	h := sha256.New()
	h.Write([]byte("crossdock bundle 1\n")) // a hash never fails
	size := make([]byte, 8)
	part := func(p []byte) {
		binary.BigEndian.PutUint64(size, uint64(len(p)))
		h.Write(size)
		h.Write(p)
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		part([]byte(name))
		part(b[name])
	}
	return [32]byte(h.Sum(nil))
}

// check finds what would keep a bundle from travelling.
func (b Bundle) check(problems *Problems) {
	total := 0
	for _, name := range slices.Sorted(maps.Keys(b)) {
		total += len(name) + len(b[name])
		if !fs.ValidPath(name) || len(name) > maxPath {
			problems.add(Problem{File: name, Line: 1, Message: "the path is not valid in a bundle", Hint: "use a relative path with slashes"})
		}
		if len(b[name]) > MaxFile {
			problems.add(Problem{File: name, Line: 1, Message: fmt.Sprintf("the file has %d bytes, the limit is %d", len(b[name]), MaxFile)})
		}
	}
	switch {
	case len(b) > MaxFiles || total > MaxOpened:
		problems.add(Problem{Line: 1, Message: fmt.Sprintf("the policy has %d files and %d bytes, the limits are %d and %d", len(b), total, MaxFiles, MaxOpened)})
	case total > MaxBundle && len(b.Encode()) > MaxBundle:
		problems.add(Problem{Line: 1, Message: fmt.Sprintf("the policy is larger than %d bytes when compressed", MaxBundle)})
	}
}
