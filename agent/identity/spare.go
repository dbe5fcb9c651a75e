package identity

import (
	"crypto/rand"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

const (
	spareFile  = "spare"
	spareBytes = 64 << 10 // many times what the small files here take
	leastSpare = 4 << 10
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
	err = atomicfile.Write(path, content, 0o600)
	keepSpare(dir)
	return err
}

// keepSpare keeps room for write, as much as there is.
func keepSpare(dir string) {
	path, kept := filepath.Join(dir, spareFile), int64(0)
	if info, err := os.Stat(path); err == nil {
		kept = info.Size()
	}
	content := make([]byte, spareBytes)
	_, _ = rand.Read(content) // zeros take no room where the disk compresses; it cannot fail
	for size := int64(spareBytes); size > kept && size >= leastSpare; size /= 2 {
		if atomicfile.Write(path, content[:size], 0o600) == nil {
			return
		}
	}
}
