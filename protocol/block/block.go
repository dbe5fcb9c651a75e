// Package block owns the unit in which events travel and rest: the block of many events
// that go to the same set of agents, and the entry that a journal keeps for one event.
//
// It refuses to know what an event means, who may send it and where it is stored. Its
// invariant: a block is written once, by the agent that cuts it, and every later hop
// either carries exactly those bytes or reports them as corrupt.
package block

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Limits of one block.
const (
	MaxEvents  = 1024
	MaxPayload = 1 << 20              // bytes of bodies before compression, beyond the first event
	MaxBytes   = MaxPayload + 768<<10 // bytes of an encoded block; what every hop must take
	maxOpened  = MaxPayload + 512<<10 // bytes that a payload may open to
	maxLanes   = 4096
)

// Control is the destination of facts for the control plane itself.
const Control = "@control"

// Origin is the agent that accepted the events, and its epoch.
type Origin struct {
	Agent string
	Epoch uint64
}

// Lane says which number the block's first event has on the lane to one agent. The rest
// follow densely: every event of a block goes to every agent that it names.
type Lane struct {
	Agent string
	First uint64
}

// Envelope is the little that a relay reads: where from, where to, how many.
type Envelope struct {
	Origin Origin
	To     []Lane
	Count  int
}

// Last is the number of the block's last event on a lane that begins with first.
func (e *Envelope) Last(first uint64) uint64 { return first + uint64(e.Count) - 1 }

// Lane finds the lane to an agent.
func (e *Envelope) Lane(agent string) (Lane, bool) {
	for _, l := range e.To {
		if l.Agent == agent {
			return l, true
		}
	}
	return Lane{}, false
}

// Item is one event of a block: its head, and the body that AppendBody made.
type Item struct {
	Head
	Body []byte
}

const magic = "XDB1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A zstd coder is costly to make and safe to share for EncodeAll and DecodeAll.
var coders = sync.OnceValues(func() (*zstd.Encoder, *zstd.Decoder) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // options are constants
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxOpened), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		panic(err)
	}
	return enc, dec
})

// Cut writes a block. The items go to all of the lanes, in this order.
//
// Layout: magic, CRC-32C of the header, length of the header, header, CRC-32C of the
// payload, payload. The header holds envelope, shapes and heads; the payload is zstd.
func Cut(from Origin, to []Lane, items []Item) ([]byte, error) {
	if len(items) == 0 || len(items) > MaxEvents || len(to) == 0 || len(to) > maxLanes {
		return nil, fmt.Errorf("cut block: %d events for %d agents is outside the limits", len(items), len(to))
	}
	header := appendString(nil, from.Agent)
	header = binary.AppendUvarint(header, from.Epoch)
	header = binary.AppendUvarint(header, uint64(len(to)))
	for _, l := range to {
		header = appendString(header, l.Agent)
		header = binary.AppendUvarint(header, l.First)
	}
	header = binary.AppendUvarint(header, uint64(len(items)))

	shapes := map[string]uint64{}
	var shapeBytes, heads, payload []byte
	for i := range items {
		shape := string(items[i].appendShape(nil))
		n, known := shapes[shape]
		if !known {
			n = uint64(len(shapes))
			shapes[shape] = n
			shapeBytes = append(shapeBytes, shape...)
		}
		heads = binary.AppendUvarint(heads, n)
		heads = items[i].appendOwn(heads)
		payload = binary.AppendUvarint(payload, uint64(len(items[i].Body)))
		payload = append(payload, items[i].Body...)
	}
	if len(payload) > maxOpened {
		return nil, fmt.Errorf("cut block: %d bytes of events, the limit is %d: what opens to more is refused as corrupt", len(payload), maxOpened)
	}
	header = binary.AppendUvarint(header, uint64(len(shapes)))
	header = append(append(header, shapeBytes...), heads...)

	enc, _ := coders()
	out := append(make([]byte, 0, len(header)+len(payload)/3+64), magic...)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(header, castagnoli))
	out = binary.BigEndian.AppendUint32(out, uint32(len(header)))
	out = append(out, header...)
	at := len(out)
	out = enc.EncodeAll(payload, append(out, 0, 0, 0, 0))
	binary.BigEndian.PutUint32(out[at:], crc32.Checksum(out[at+4:], castagnoli))
	if len(out) > MaxBytes {
		return nil, fmt.Errorf("cut block: %d bytes, the limit is %d", len(out), MaxBytes)
	}
	return out, nil
}

// split checks the frame and the header's checksum and gives the two parts.
func split(text []byte) (header, payload []byte, err error) {
	if len(text) > MaxBytes {
		return nil, nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrCorrupt, len(text), MaxBytes)
	}
	r := &reader{b: text}
	if string(r.bytes(len(magic))) != magic {
		return nil, nil, fmt.Errorf("%w: not a block of this version", ErrCorrupt)
	}
	sum, size := r.uint32(), r.uint32()
	if size > math.MaxInt32 {
		r.fail("header too long")
	}
	header = r.bytes(int(size))
	if r.err != nil {
		return nil, nil, r.err
	}
	if crc32.Checksum(header, castagnoli) != sum {
		return nil, nil, fmt.Errorf("%w: checksum of the header", ErrCorrupt)
	}
	return header, r.b, nil
}

func (r *reader) envelope() Envelope {
	var e Envelope
	e.Origin = Origin{Agent: r.string(), Epoch: r.uvarint()}
	for range r.count(maxLanes) {
		e.To = append(e.To, Lane{Agent: r.string(), First: r.uvarint()})
	}
	e.Count = r.count(MaxEvents)
	if r.err == nil && (e.Count == 0 || len(e.To) == 0) {
		r.fail("empty")
	}
	for _, l := range e.To {
		if l.First == 0 || l.First > math.MaxInt64 {
			r.fail("lane number out of range")
		}
	}
	return e
}

// ParseEnvelope reads where a block goes, and checks the whole block's checksums, so that
// what a relay accepts is what the agent cut.
func ParseEnvelope(text []byte) (Envelope, error) {
	header, payload, err := split(text)
	if err != nil {
		return Envelope{}, err
	}
	if err := checkPayload(payload); err != nil {
		return Envelope{}, err
	}
	r := &reader{b: header}
	e := r.envelope()
	return e, r.err
}

// ParseHeads reads the envelope and the heads without decompressing.
func ParseHeads(text []byte) (Envelope, []Head, error) {
	header, _, err := split(text)
	if err != nil {
		return Envelope{}, nil, err
	}
	r := &reader{b: header}
	e := r.envelope()
	shapes := make([]Head, 0, 4)
	for range r.count(MaxEvents) {
		shapes = append(shapes, r.shape())
	}
	heads := make([]Head, 0, e.Count)
	for range e.Count {
		n := r.uvarint()
		if r.err != nil || n >= uint64(len(shapes)) {
			r.fail("unknown shape")
			break
		}
		h := shapes[n]
		r.own(&h)
		heads = append(heads, h)
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes after the last head")
	}
	return e, heads, r.err
}

func checkPayload(payload []byte) error {
	r := &reader{b: payload}
	sum := r.uint32()
	if r.err != nil {
		return r.err
	}
	if crc32.Checksum(r.b, castagnoli) != sum {
		return fmt.Errorf("%w: checksum of the payload", ErrCorrupt)
	}
	return nil
}

// Open decompresses a block and gives its events in lane order.
func Open(text []byte) (Envelope, []Item, error) {
	e, heads, err := ParseHeads(text)
	if err != nil {
		return e, nil, err
	}
	_, payload, err := split(text)
	if err != nil {
		return e, nil, err
	}
	if err := checkPayload(payload); err != nil {
		return e, nil, err
	}
	_, dec := coders()
	opened, err := dec.DecodeAll(payload[4:], nil)
	if err != nil {
		return e, nil, fmt.Errorf("%w: payload: %w", ErrCorrupt, err)
	}
	r := &reader{b: opened}
	items := make([]Item, len(heads))
	for i := range heads {
		items[i] = Item{Head: heads[i], Body: r.bytes(r.count(maxOpened))}
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("bytes after the last event")
	}
	return e, items, r.err
}

// AppendBody writes what a block carries of one event besides its head: the ordering key
// and the canonical encoding of the event.
func AppendBody(b []byte, key string, event []byte) []byte {
	return append(appendString(b, key), event...)
}

// SplitBody undoes AppendBody. The results share body's memory.
func SplitBody(body []byte) (key string, event []byte, err error) {
	r := &reader{b: body}
	key = r.string()
	return key, r.b, r.err
}
