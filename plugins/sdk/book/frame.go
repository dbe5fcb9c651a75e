package book

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// A record is a line: checksum, length of the body, version, body. The checksum is over all
// that follows it.
const (
	frameHead = len("0123abcd 00000010 0001 ")
	frameSize = frameHead + 1 // with the end of the line, and without a body
	maxFrame  = frameSize + MaxBody
)

// formatVersion is of the file, as its first line says it.
const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(version int, body []byte) ([]byte, error) {
	switch {
	case len(body) > MaxBody:
		return nil, fmt.Errorf("it has %d bytes, at most %d", len(body), MaxBody)
	case version < 0 || version > 0xffff:
		return nil, fmt.Errorf("%d is no version", version)
	case bytes.ContainsAny(body, "\n\x00"):
		return nil, errors.New("it holds the end of a line or a zero byte")
	}
	rest := fmt.Appendf(nil, "%08x %04x %s", len(body), version, body)
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(rest, castagnoli), rest), nil
}

func decode(line []byte) (*Record, error) {
	size, ok := claimed(line)
	switch {
	case !ok:
		return nil, errors.New("it does not begin like a record")
	case size != len(line) || line[len(line)-1] != '\n':
		return nil, fmt.Errorf("it has %d bytes and says that it has %d", len(line), size)
	}
	rest := line[9 : len(line)-1]
	if string(line[:9]) != fmt.Sprintf("%08x ", crc32.Checksum(rest, castagnoli)) {
		return nil, errors.New("its checksum is wrong")
	}
	version, err := strconv.ParseUint(string(line[18:22]), 16, 16)
	if err != nil {
		return nil, err
	}
	return &Record{Version: int(version), Body: line[frameHead : len(line)-1]}, nil
}

// claimed is the size of a record as its beginning says it.
func claimed(line []byte) (int, bool) {
	if len(line) < frameHead || !headLike(line) {
		return 0, false
	}
	size, err := strconv.ParseUint(string(line[9:17]), 16, 32)
	return frameSize + int(size), err == nil
}

// headLike tells whether this may be the beginning of a record of which sectors are missing: as
// zeros.
func headLike(line []byte) bool {
	for i, c := range line[:min(len(line), frameHead)] {
		switch space := i == 8 || i == 17 || i == 22; {
		case c == 0, space && c == ' ', !space && ('0' <= c && c <= '9' || 'a' <= c && c <= 'f'):
		default:
			return false
		}
	}
	return true
}

// first is the line that every book begins with.
func first(kind string) []byte {
	text, err := encode(0, fmt.Appendf(nil, "crossdock book %d of %s", formatVersion, kind))
	if err != nil {
		panic(err) // kinds are constants of programs
	}
	return text
}

// sector is what a disk writes wholly or not at all, or a part of it.
const sector = 512

// hole tells whether a whole sector is missing of what stands at a place in the file. A byte
// that has gone bad is none: only a write that was broken off leaves one.
func hole(text []byte, at int64) bool {
	for begin := 0; begin < len(text); {
		end := min(len(text), begin+sector-int((at+int64(begin))%sector))
		if len(bytes.Trim(text[begin:end], "\x00")) == 0 {
			return true
		}
		begin = end
	}
	return false
}

// torn says why what stands at the end of the file is not what a crash leaves of one record
// that was being written; empty: it is. Of such a record any sectors may have reached the disk,
// and the file may end anywhere in it.
func torn(rest []byte, at int64) string {
	size, known := claimed(rest)
	end := bytes.IndexByte(rest, '\n')
	switch {
	case len(rest) > maxFrame:
		return "it is longer than one record"
	case end >= 0 && end < len(rest)-1:
		return "others follow it"
	case !headLike(rest):
		return "it does not begin like a record"
	case known && len(rest) > size:
		return "it is longer than it says"
	case (end >= 0 || known && len(rest) == size) && !hole(rest, at):
		return "it is all there, and changed"
	case wholeWithin(rest):
		return "a whole one follows it"
	}
	return ""
}

// wholeWithin tells whether there is a record at the end of a text.
func wholeWithin(text []byte) bool {
	for i := range text {
		if size, ok := claimed(text[i:]); ok && size == len(text)-i {
			if _, err := decode(text[i:]); err == nil {
				return true
			}
		}
	}
	return false
}

// tornFirst is torn for the first line, of which every byte is known.
func tornFirst(rest, want []byte) bool {
	if len(rest) > len(want) {
		return false
	}
	for i, c := range rest {
		if c != 0 && c != want[i] {
			return false
		}
	}
	return true
}
