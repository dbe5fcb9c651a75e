package journal_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/protocol/block"
)

// What the agent itself tells the control plane is no event of a system.
func TestFactsAreNotCounted(t *testing.T) {
	s := started(t, options{})
	fact := admitted("f", "ham", data(0), block.Control)
	submit(t, s, fact)
	submit(t, s, admitted("1", "k", data(1), "nyc"), admitted("2", "k", data(2)), fact)
	if n := s.Stats().Accepted; n != 2 {
		t.Errorf("%d accepted, want the 2 that are no facts", n)
	}
	if n := s.log.Mark("total/accepted"); n != 2 {
		t.Errorf("%d kept, want 2", n)
	}
}

func TestFullnessIsTold(t *testing.T) {
	err := error(&journal.FullError{Level: 0.91, Limit: journal.SubmitLevel})
	if !errors.Is(err, journal.ErrFull) {
		t.Error("not one of ErrFull")
	}
}

// A block that arrived whole and does not open is its sender's doing, and names it.
func TestBlockThatDoesNotOpenNamesItsSender(t *testing.T) {
	var told error
	s := started(t, options{journal: journal.Config{OnDamage: func(_, _ uint64, err error) { told = err }}})
	text := inbound(t, "rogue", 1, 1, 2)
	const frame = 12 // magic, checksum of the header, length of the header
	end := frame + binary.BigEndian.Uint32(text[8:])
	payload := []byte("this is no compressed payload")
	text = binary.BigEndian.AppendUint32(text[:end:end], crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	text = append(text, payload...)
	if _, err := s.Receive(t.Context(), text, time.Now()); err != nil {
		t.Fatal(err)
	}
	items, _, err := s.ReadLocal(0, 10)
	if err != nil || len(items) != 2 || items[0].Fault == "" {
		t.Fatalf("%+v %v", items, err)
	}
	var foreign *journal.ForeignError
	if !errors.As(told, &foreign) || foreign.Agent != "rogue" {
		t.Errorf("told %v", told)
	}
}
