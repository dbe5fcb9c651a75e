package book

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"time"
)

var errDisk = errors.New("input/output error")

// disk is a file whose machine may lose power. What was written and not synced is in the cache
// alone; a sync that fails leaves it there, and believes it written.
type disk struct {
	cached  []byte
	durable []byte
	dirty   []bool // sectors that the next sync writes

	failWrite, failSync, failTruncate bool
	off                               bool // the power goes at the next sync
	wrote                             int  // calls of WriteAt
	synced                            int  // value of wrote at the last good sync
}

func newDisk(text []byte) *disk { return &disk{cached: bytes.Clone(text), durable: bytes.Clone(text)} }

func (d *disk) ReadAt(p []byte, at int64) (int, error) {
	if at >= int64(len(d.cached)) {
		return 0, io.EOF
	}
	n := copy(p, d.cached[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *disk) WriteAt(p []byte, at int64) (int, error) {
	d.wrote++
	if d.failWrite {
		p = p[:len(p)/2]
	}
	end := int(at) + len(p)
	d.cached = append(d.cached, make([]byte, max(0, end-len(d.cached)))...)
	copy(d.cached[at:], p)
	d.mark(int(at), end)
	if d.failWrite {
		return len(p), errDisk
	}
	return len(p), nil
}

func (d *disk) mark(from, to int) {
	last := (to + sector - 1) / sector
	d.dirty = append(d.dirty, make([]bool, max(0, last-len(d.dirty)))...)
	for s := from / sector; s < last; s++ {
		d.dirty[s] = true
	}
}

func (d *disk) Truncate(size int64) error {
	if d.failTruncate {
		return errDisk
	}
	d.cached = d.cached[:size]
	return nil
}

func (d *disk) Sync() error {
	if d.off {
		return errDisk
	}
	if d.failSync {
		clear(d.dirty)
		return errDisk
	}
	d.write(func() bool { return true }, len(d.cached))
	d.synced = d.wrote
	return nil
}

// write brings sectors of the cache to the disk, and the size.
func (d *disk) write(pick func() bool, size int) {
	d.durable = append(d.durable, make([]byte, max(0, size-len(d.durable)))...)[:size]
	for s, dirty := range d.dirty {
		begin, end := s*sector, min(size, (s+1)*sector, len(d.cached))
		if dirty && begin < end && pick() {
			copy(d.durable[begin:end], d.cached[begin:end])
			d.dirty[s] = false
		}
	}
}

// cutPower loses what is in the cache alone, but for some of it.
func (d *disk) cutPower(r *rand.Rand) {
	low, high := min(len(d.durable), len(d.cached)), max(len(d.durable), len(d.cached))
	size := low + r.IntN(high-low+1)
	if len(d.cached) < len(d.durable) { // cut off, and synced or not
		size = []int{len(d.cached), len(d.durable)}[r.IntN(2)]
	}
	d.write(func() bool { return r.IntN(2) == 0 }, size)
	d.cached = bytes.Clone(d.durable)
	clear(d.dirty)
}

func (d *disk) Close() error               { return nil }
func (d *disk) Stat() (os.FileInfo, error) { return fileSize(len(d.cached)), nil }
func (d *disk) open(string) (File, error)  { return d, nil }

type fileSize int64

func (s fileSize) Size() int64      { return int64(s) }
func (fileSize) Name() string       { return "book.log" }
func (fileSize) Mode() os.FileMode  { return 0o600 }
func (fileSize) ModTime() time.Time { return time.Time{} }
func (fileSize) IsDir() bool        { return false }
func (fileSize) Sys() any           { return nil }
