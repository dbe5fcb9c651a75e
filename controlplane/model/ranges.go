package model

import (
	"time"

	"github.com/crossdock/crossdock/protocol/serial"
)

// NumberRange is what a revision says of a range of serial numbers.
type NumberRange struct {
	Name  string
	Span  serial.Span
	Sites []string // that may take from it
	Block uint64   // most that one lease gives
	Low   uint64

	Hourly uint64 `cbor:",omitempty"` // most that is leased in an hour, fixed with the range; 0: not said
}

// NumberBlock is serials in a row, both ends included.
type NumberBlock struct {
	First uint64
	Last  uint64
}

// Count is how many they are.
func (b NumberBlock) Count() uint64 { return b.Last - b.First + 1 }

// NumberMark is what an agent says of a range.
type NumberMark struct {
	Range   string
	Highest uint64      // serial that it holds or has ever held
	Form    serial.Form `cbor:",omitzero"`  // of what it holds; zero: it does not say
	Used    uint64      `cbor:",omitempty"` // numbers that it has given, over the life of its file
	Counted bool        `cbor:",omitempty"` // it says Used
}

// LeaseNumbers gives an agent the next serials of a range. What was leased once is never
// leased again. A repeat with the same request gets the same block. Answer: NumberBlock.
type LeaseNumbers struct {
	At      time.Time
	Agent   string
	Epoch   uint64 // the agent's: a fenced copy gets nothing
	Range   string
	Request [16]byte
	Have    uint64 // left at the agent
	Want    uint64 // 0: as many as the range says
	Highest uint64 // as in NumberMark
}

// ReleaseRange has a range go on at a serial, by an operator's word: what may be printed
// of it without being known lies below Next.
type ReleaseRange struct {
	Asked
	Range string
	Next  uint64 // the first serial that may be leased
}

// RangeStatus is a range that is in force or ever was.
type RangeStatus struct {
	NumberRange
	InForce bool
	Next    uint64 // first serial that may be leased
	Sure    uint64 // those from here up to Next may have been leased in a life that was lost
	Held    string // why nothing is leased; empty: nothing holds it
	Leases  []LeaseStatus
}

// LeaseStatus is what one agent has of a range.
type LeaseStatus struct {
	Agent     string
	Epoch     uint64        // in which Blocks were leased
	Blocks    []NumberBlock // that it may still have numbers of, the oldest first
	Leased    uint64        // numbers in all, over all epochs
	Forfeited uint64        // most that were lost with the data of former epochs
	At        time.Time     // of the newest lease
}

func (*LeaseNumbers) command() {}
func (*ReleaseRange) command() {}
