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
	kindKnown   = 'K' // as 'P', then 2 bytes: length of a bitmap; the bitmap of events to pass over; then as 'B'
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
	skip     int    // events at its beginning that are passed over
	known    []byte // and those anywhere, a bit for each
	relayed  time.Time
	received time.Time
	gap      *GapRecord
}

// passes reports whether an event of the block does not count: it was held before.
func (r *record) passes(i int) bool {
	return i < r.skip || i/8 < len(r.known) && r.known[i/8]&(1<<(i%8)) != 0
}

func appendBlockRecord(skip int, known []byte, relayed, received time.Time, text []byte) []byte {
	b := make([]byte, 0, len(text)+21+len(known))
	switch {
	case known != nil:
		b = binary.BigEndian.AppendUint16(append(b, kindKnown), uint16(skip))
		b = binary.BigEndian.AppendUint16(b, uint16(len(known)))
		b = append(b, known...)
	case skip > 0:
		b = binary.BigEndian.AppendUint16(append(b, kindPartial), uint16(skip))
	default:
		b = append(b, kindBlock)
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
	case kindPartial, kindKnown:
		if len(rest) < 2 {
			return r, fmt.Errorf("%w: block record cut short", ErrCorrupt)
		}
		r.skip = int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; kind == kindKnown {
			var err error
			if r.known, rest, err = cutBitmap(rest); err != nil {
				return r, err
			}
		}
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

// cutBitmap takes a bitmap with its length from the beginning of a record's rest.
func cutBitmap(text []byte) (bits, rest []byte, err error) {
	if len(text) < 2 {
		return nil, nil, fmt.Errorf("%w: block record cut short", ErrCorrupt)
	}
	n := int(binary.BigEndian.Uint16(text))
	if text = text[2:]; n > block.MaxEvents/8 || n > len(text) {
		return nil, nil, fmt.Errorf("%w: a bitmap of %d bytes in a block record", ErrCorrupt, n)
	}
	return text[:n], text[n:], nil
}
