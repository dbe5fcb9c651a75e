package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

const (
	spareFile  = "spare"
	spareBytes = 64 << 10 // many times what the small files here take
)

// write replaces a file of the directory. On a disk that something else has filled it gives
// up the room that was kept: without a few bytes an agent could neither start nor open a
// session, and what would make room again is to deliver and to send.
func write(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	err := atomicfile.Write(path, content, 0o600)
	if err == nil || os.Remove(filepath.Join(dir, spareFile)) != nil {
		return err
	}
	return atomicfile.Write(path, content, 0o600)
}

// keepSpare keeps room for write, when there is some.
func keepSpare(dir string) {
	path := filepath.Join(dir, spareFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = atomicfile.Write(path, make([]byte, spareBytes), 0o600) // on a full disk there is none to keep
}
