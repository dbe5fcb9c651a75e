package journal

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
)

// Each record begins with its kind.
const (
	kindEntry   = 'E' // block.AppendEntry
	kindBlock   = 'B' // relayed and received, 8 bytes of unix ms each; the block
	kindPartial = 'P' // 2 bytes: how many events of the block were held before; then as 'B'
	kindGap     = 'G' // JSON of GapRecord
)

// GapRecord stands for numbers of an inbound lane that never came.
type GapRecord struct {
	Source    string    `json:"source"`
	Epoch     uint64    `json:"epoch"`
	First     uint64    `json:"first"`
	Last      uint64    `json:"last"`
	Cause     string    `json:"cause"`
	Direction string    `json:"direction"` // in
	Received  time.Time `json:"received"`
}

// record is one decoded record: exactly one of entry, block and gap.
type record struct {
	entry    *block.Entry
	block    []byte
	skip     int
	relayed  time.Time
	received time.Time
	gap      *GapRecord
}

func appendBlockRecord(skip int, relayed, received time.Time, text []byte) []byte {
	b := make([]byte, 0, len(text)+19)
	if skip == 0 {
		b = append(b, kindBlock)
	} else {
		b = binary.BigEndian.AppendUint16(append(b, kindPartial), uint16(skip))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(relayed.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(received.UnixMilli()))
	return append(b, text...)
}

func parseRecord(data []byte) (record, error) {
	if len(data) == 0 {
		return record{}, fmt.Errorf("%w: empty record", ErrCorrupt)
	}
	kind, rest := data[0], data[1:]
	var r record
	switch kind {
	case kindEntry:
		e, err := block.ParseEntry(rest)
		r.entry = &e
		return r, err
	case kindPartial:
		if len(rest) < 2 {
			return r, fmt.Errorf("%w: block record cut short", ErrCorrupt)
		}
		r.skip = int(binary.BigEndian.Uint16(rest))
		rest = rest[2:]
		fallthrough
	case kindBlock:
		if len(rest) < 16 {
			return r, fmt.Errorf("%w: block record cut short", ErrCorrupt)
		}
		r.relayed = time.UnixMilli(int64(binary.BigEndian.Uint64(rest))).UTC()
		r.received = time.UnixMilli(int64(binary.BigEndian.Uint64(rest[8:]))).UTC()
		r.block = rest[16:]
		return r, nil
	case kindGap:
		r.gap = &GapRecord{}
		if err := json.Unmarshal(rest, r.gap); err != nil {
			return r, fmt.Errorf("%w: gap record: %w", ErrCorrupt, err)
		}
		return r, nil
	}
	return r, fmt.Errorf("%w: record of unknown kind %q", ErrCorrupt, kind)
}
