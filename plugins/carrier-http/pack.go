package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A plugin's program is one file, pinned by its hash, and started without arguments. So the
// description is a part of that file: it stands behind the program, followed by its length and
// by the mark.
const (
	mark     = "crossdock carrier-http 1\n"
	maxShown = 1 << 20 // bytes of a description
)

// unpack gives the description that stands behind a program; nil: there is none.
func unpack(f io.ReaderAt, size int64) ([]byte, error) {
	foot := make([]byte, 8+len(mark))
	if size < int64(len(foot)) {
		return nil, nil
	}
	if _, err := f.ReadAt(foot, size-int64(len(foot))); err != nil {
		return nil, err
	}
	if !bytes.Equal(foot[8:], []byte(mark)) {
		return nil, nil
	}
	n := binary.BigEndian.Uint64(foot)
	if n > maxShown || int64(n) > size-int64(len(foot)) {
		return nil, errors.New("the description behind the program is damaged: pack it again")
	}
	text := make([]byte, n)
	_, err := f.ReadAt(text, size-int64(len(foot))-int64(n))
	return text, err
}

// own gives the description that stands behind the program at path.
func own(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return unpack(f, info.Size())
}

// pack writes the program at self with a description behind it.
func pack(self string, description []byte, to string) (err error) {
	program, err := os.Open(self)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	info, err := program.Stat()
	if err != nil {
		return err
	}
	if before, err := unpack(program, info.Size()); err != nil || before != nil {
		return errors.Join(err, errors.New("this program has a description already: pack with one that has none"))
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("%w: write to a file that is not there yet", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, program); err != nil {
		return err
	}
	foot := append(binary.BigEndian.AppendUint64(nil, uint64(len(description))), mark...)
	if _, err := out.Write(append(bytes.Clone(description), foot...)); err != nil {
		return err
	}
	return out.Sync()
}
