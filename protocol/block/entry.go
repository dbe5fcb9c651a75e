package block

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Number is the place of one event on the lane to an agent.
type Number struct {
	Agent string
	Seq   uint64
}

// Entry is one event as the journal of the accepting agent keeps it: with the numbers
// that it got at the commit, which are never given anew.
type Entry struct {
	Item
	Numbers []Number
}

// Number finds the event's number on the lane to an agent.
func (e *Entry) Number(agent string) (uint64, bool) {
	for _, n := range e.Numbers {
		if n.Agent == agent {
			return n.Seq, true
		}
	}
	return 0, false
}

// AppendEntry writes an entry behind its CRC-32C.
func AppendEntry(b []byte, e *Entry) []byte {
	at := len(b)
	b = append(appendEntryHead(b, &e.Head, e.Numbers), e.Body...)
	return sealEntry(b, at)
}

// AppendEvent is AppendEntry with the body that AppendBody makes of key and event.
func AppendEvent(b []byte, h *Head, numbers []Number, key string, event []byte) []byte {
	at := len(b)
	b = AppendBody(appendEntryHead(b, h, numbers), key, event)
	return sealEntry(b, at)
}

func appendEntryHead(b []byte, h *Head, numbers []Number) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.AppendUvarint(b, uint64(len(numbers)))
	for _, n := range numbers {
		b = appendString(b, n.Agent)
		b = binary.AppendUvarint(b, n.Seq)
	}
	return h.appendOwn(h.appendShape(b))
}

func sealEntry(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli))
	return b
}

// ParseEntry reads an entry. The body shares text's memory.
func ParseEntry(text []byte) (Entry, error) {
	r := &reader{b: text}
	sum := r.uint32()
	if r.err == nil && crc32.Checksum(r.b, castagnoli) != sum {
		return Entry{}, fmt.Errorf("%w: checksum of the entry", ErrCorrupt)
	}
	var e Entry
	for range r.count(maxLanes) {
		e.Numbers = append(e.Numbers, Number{Agent: r.string(), Seq: r.uvarint()})
	}
	e.Head = r.shape()
	r.own(&e.Head)
	e.Body = r.b
	return e, r.err
}
