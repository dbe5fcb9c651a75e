package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"time"
)

// ErrCorrupt marks bytes that are not what was written: a damaged or foreign block or entry.
var ErrCorrupt = errors.New("corrupt block")

// Revision names the policy revision that decided an event's routing. A restore of the
// control plane raises the generation; revisions are ordered by (generation, number).
type Revision struct {
	Generation uint64
	Number     uint64
}

// Less orders revisions.
func (r Revision) Less(o Revision) bool {
	if r.Generation != o.Generation {
		return r.Generation < o.Generation
	}
	return r.Number < o.Number
}

func (r Revision) String() string { return fmt.Sprintf("%d.%d", r.Generation, r.Number) }

// Target is one delivery that routing decided: the system, the agent it is attached to,
// and the route that asked for it.
type Target struct {
	Agent  string
	System string
	Route  string
	Shadow bool   // compared, never acted upon
	Fault  string // routing failed here; the delivery is a dead letter with this cause from the start
}

// Head is what a reader learns of an event without opening the block it travels in.
type Head struct {
	ID       [16]byte // event.Hash of source and id
	Key      uint64   // KeyHash of the ordering key
	Type     string
	System   string // that published it
	Revision Revision
	Targets  []Target
	Occurred time.Time // event time, the receive time if the producer gave none
	Received time.Time // commit at the accepting agent
}

// KeyHash hashes an ordering key for Head.Key.
func KeyHash(key string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key)) // never fails
	return h.Sum64()
}

// TargetsAt lists the targets of one agent.
func (h *Head) TargetsAt(agent string) []Target {
	var out []Target
	for _, t := range h.Targets {
		if t.Agent == agent {
			out = append(out, t)
		}
	}
	return out
}

// shape is what most events of a block have in common; the header holds each shape once.
func (h *Head) appendShape(b []byte) []byte {
	b = appendString(b, h.Type)
	b = appendString(b, h.System)
	b = binary.AppendUvarint(b, h.Revision.Generation)
	b = binary.AppendUvarint(b, h.Revision.Number)
	b = binary.AppendUvarint(b, uint64(len(h.Targets)))
	for _, t := range h.Targets {
		b = appendString(b, t.Agent)
		b = appendString(b, t.System)
		b = appendString(b, t.Route)
		b = appendString(b, t.Fault)
		shadow := byte(0)
		if t.Shadow {
			shadow = 1
		}
		b = append(b, shadow)
	}
	return b
}

func (r *reader) shape() Head {
	var h Head
	h.Type = r.string()
	h.System = r.string()
	h.Revision = Revision{Generation: r.uvarint(), Number: r.uvarint()}
	n := r.count(maxTargets)
	for range n {
		t := Target{Agent: r.string(), System: r.string(), Route: r.string(), Fault: r.string()}
		t.Shadow = r.byte() == 1
		h.Targets = append(h.Targets, t)
	}
	return h
}

func (h *Head) appendOwn(b []byte) []byte {
	b = append(b, h.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, h.Key)
	b = binary.AppendVarint(b, h.Occurred.UnixMilli())
	return binary.AppendVarint(b, h.Received.UnixMilli())
}

func (r *reader) own(h *Head) {
	copy(h.ID[:], r.bytes(len(h.ID)))
	h.Key = r.uint64()
	h.Occurred = time.UnixMilli(r.varint()).UTC()
	h.Received = time.UnixMilli(r.varint()).UTC()
}

const (
	maxTargets = 1024
	maxText    = 64 << 10
)

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader decodes without ever reading past its bytes; the first failure sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	r.b = nil
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("cut short")
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads a number of things that follow and refuses more than limit of them.
func (r *reader) count(limit int) int {
	v := r.uvarint()
	if v > uint64(limit) || v > math.MaxInt32 {
		r.fail("too many")
		return 0
	}
	return int(v)
}

func (r *reader) string() string { return string(r.bytes(r.count(maxText))) }
