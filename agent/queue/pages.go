package queue

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// bbolt trusts its pages. It may run in circles on a damaged one, and when it opens a file
// for writing it looks at all pages in a goroutine whose panic nobody can recover. So the
// pages are checked here first: every one that can be reached must be what bbolt will take
// it for. A file that fails is never given to bbolt; its records are picked from the pages
// that are left, each proven by its own checksum. This knows version 2 of bbolt's format.

const (
	pageHeader  = 16
	element     = 16
	metaBytes   = 64
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	flagBranch  = 1
	flagLeaf    = 2
	flagBucket  = 1 // of a leaf element
	maxTree     = 64
)

// errNoMeta is damage that leaves nothing to begin with.
var errNoMeta = errors.New("no valid meta page")

type pageCheck struct {
	file     io.ReaderAt
	pageSize int64
	pages    uint64
	seen     map[uint64]bool
	skip     []byte // a bucket of the root that is not entered
	head     [pageHeader]byte
	rooms    [][]byte // by depth
	// found makes the walk go on behind damage, and gets every value that is reached.
	found func(key []byte, at int64, size int)
}

// checkPages checks a file whole, or without its records.
func checkPages(path string, records bool) error {
	c := &pageCheck{seen: map[uint64]bool{}}
	if !records {
		c.skip = bucketCommits
	}
	return c.run(path)
}

func (c *pageCheck) run(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	c.file = &window{file: f}
	root, err := c.meta()
	if err == nil || c.found != nil && !errors.Is(err, errNoMeta) {
		err = c.page(root, 0)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamage, filepath.Base(path), err)
	}
	return nil
}

// fault ends a check and is passed over by a search.
func (c *pageCheck) fault(err error) error {
	if c.found != nil {
		return nil
	}
	return err
}

// meta reads both meta pages and takes the newer. One that is invalid is an error too: it
// may have been the newer one, and bbolt would go on from the state before it.
func (c *pageCheck) meta() (root uint64, err error) {
	newer, size, ok := c.metaAt(0)
	if !ok {
		err = errors.New("the first meta page is invalid")
		for size = 512; size <= 64<<10; size *= 2 { // it alone says how large pages are
			var own int64
			if newer, own, ok = c.metaAt(size); ok && own == size {
				break
			}
		}
		if size > 64<<10 {
			return 0, errNoMeta
		}
	} else if second, _, ok := c.metaAt(size); !ok {
		err = errors.New("the second meta page is invalid")
	} else if binary.NativeEndian.Uint64(second[48:]) > binary.NativeEndian.Uint64(newer[48:]) {
		newer = second
	}
	c.pageSize, c.pages = size, binary.NativeEndian.Uint64(newer[40:])
	return binary.NativeEndian.Uint64(newer[16:]), err
}

func (c *pageCheck) metaAt(at int64) (meta []byte, size int64, ok bool) {
	b := make([]byte, metaBytes)
	if _, err := c.file.ReadAt(b, at+pageHeader); err != nil {
		return nil, 0, false
	}
	h := fnv.New64a()
	h.Write(b[:56]) // never fails
	n := binary.NativeEndian
	size = int64(n.Uint32(b[8:]))
	valid := n.Uint32(b) == boltMagic && n.Uint32(b[4:]) == boltVersion && h.Sum64() == n.Uint64(b[56:])
	return b, size, valid && size >= 512 && size <= 64<<10
}

func (c *pageCheck) page(id uint64, depth int) error {
	if id < 2 || id >= c.pages || depth > maxTree {
		return c.fault(fmt.Errorf("page %d does not exist", id))
	}
	head := c.head[:]
	if _, err := c.file.ReadAt(head, int64(id)*c.pageSize); err != nil {
		return c.fault(fmt.Errorf("page %d: %w", id, err))
	}
	n := binary.NativeEndian
	over := uint64(n.Uint32(head[12:]))
	if got := n.Uint64(head); got != id || over >= c.pages || id+over >= c.pages {
		return c.fault(fmt.Errorf("page %d calls itself %d with %d more", id, got, over))
	}
	for i := id; i <= id+over; i++ {
		if c.seen[i] {
			return c.fault(fmt.Errorf("page %d is reached twice", i))
		}
		c.seen[i] = true
	}
	b := c.room(depth, int64(over+1)*c.pageSize)
	if _, err := c.file.ReadAt(b, int64(id)*c.pageSize); err != nil {
		return c.fault(fmt.Errorf("page %d: %w", id, err))
	}
	if err := c.elements(b, int64(id)*c.pageSize, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// room is for one page at each depth: those above it are still being gone over. What is
// found may be kept, and gets room of its own.
func (c *pageCheck) room(depth int, size int64) []byte {
	if c.found != nil {
		return make([]byte, size)
	}
	for len(c.rooms) <= depth {
		c.rooms = append(c.rooms, nil)
	}
	if int64(cap(c.rooms[depth])) < size {
		c.rooms[depth] = make([]byte, size)
	}
	return c.rooms[depth][:size]
}

// elements goes over a page, or over the inside of a small bucket, found at offset at.
func (c *pageCheck) elements(b []byte, at int64, depth int) error {
	if len(b) < pageHeader {
		return c.fault(errors.New("too short"))
	}
	n := binary.NativeEndian
	flags, count := n.Uint16(b[8:]), int(n.Uint16(b[10:]))
	if flags != flagBranch && flags != flagLeaf || pageHeader+count*element > len(b) || flags == flagBranch && count == 0 {
		return c.fault(fmt.Errorf("flags %x with %d elements", flags, count))
	}
	var last []byte
	for i := range count {
		start := pageHeader + i*element
		e := b[start : start+element]
		keyAt, keyLen, valueLen := uint64(n.Uint32(e)), uint64(n.Uint32(e[4:])), uint64(0)
		if flags == flagLeaf {
			keyAt, keyLen, valueLen = uint64(n.Uint32(e[4:])), uint64(n.Uint32(e[8:])), uint64(n.Uint32(e[12:]))
		}
		from := uint64(start) + keyAt
		if from+keyLen+valueLen > uint64(len(b)) {
			if err := c.fault(fmt.Errorf("element %d reaches beyond the page", i)); err != nil {
				return err
			}
			continue
		}
		key := b[from : from+keyLen]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			if err := c.fault(fmt.Errorf("element %d is out of order", i)); err != nil {
				return err
			}
		}
		last = key
		value := b[from+keyLen : from+keyLen+valueLen]
		if err := c.element(flags, e, key, value, at+int64(from+keyLen), depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *pageCheck) element(flags uint16, e, key, value []byte, at int64, depth int) error {
	n := binary.NativeEndian
	switch {
	case flags == flagBranch:
		return c.page(n.Uint64(e[8:]), depth+1)
	case n.Uint32(e) == flagBucket:
		if depth == 0 && c.skip != nil && bytes.Equal(key, c.skip) {
			return nil
		}
		if len(value) < 16 {
			return c.fault(errors.New("bucket too short"))
		}
		if root := n.Uint64(value); root != 0 {
			return c.page(root, depth+1)
		}
		return c.elements(value[16:], at+16, depth+1) // a small bucket lies inside its value
	case n.Uint32(e) != 0:
		return c.fault(fmt.Errorf("an element has flags %x", n.Uint32(e)))
	}
	if c.found != nil {
		c.found(key, at, len(value))
	}
	return nil
}

// span is where a file that bbolt may not read holds a record.
type span struct {
	pos  uint64
	at   int64
	size int
}

// search finds what looks like records; their checksums decide when they are read.
func search(path string) []span {
	var out []span
	c := &pageCheck{seen: map[uint64]bool{}, found: func(key []byte, at int64, size int) {
		if len(key) == 8 && size >= 4 {
			out = append(out, span{binary.BigEndian.Uint64(key), at, size})
		}
	}}
	_ = c.run(path) // whatever it found before it had to stop counts
	slices.SortStableFunc(out, func(a, b span) int { return cmp.Compare(a.pos, b.pos) })
	return out
}

// readBroken is read for a file that failed the check.
func (s *segment) readBroken(b *batch) {
	s.find.Do(func() { s.spans = search(s.path) })
	f, err := os.Open(s.path)
	if err != nil {
		b.damage(s.next-1, fmt.Errorf("%w: %w", ErrDamage, err))
		return
	}
	defer func() { _ = f.Close() }()
	i, _ := slices.BinarySearchFunc(s.spans, b.at, func(p span, pos uint64) int { return cmp.Compare(p.pos, pos) })
	for ; !b.full() && b.at < s.next && i < len(s.spans); i++ {
		p := s.spans[i]
		if p.pos < b.at || p.pos >= s.next {
			continue
		}
		if p.pos > b.at {
			b.damage(p.pos-1, s.broken)
			if b.full() {
				return
			}
		}
		v := make([]byte, p.size)
		if _, err := f.ReadAt(v, p.at); err != nil {
			b.damage(p.pos, fmt.Errorf("%w: %w", ErrDamage, err))
			continue
		}
		b.value(v)
	}
	if !b.full() && b.at < s.next {
		b.damage(s.next-1, s.broken)
	}
}
