package block

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

func drawHead(t *rapid.T) Head {
	name := rapid.StringMatching(`[a-z]{0,8}`)
	h := Head{
		Key: rapid.Uint64().Draw(t, "key"), Type: name.Draw(t, "type"), System: name.Draw(t, "system"),
		Revision: Revision{rapid.Uint64().Draw(t, "generation"), rapid.Uint64().Draw(t, "number")},
		Occurred: time.UnixMilli(rapid.Int64Range(-1e12, 4e12).Draw(t, "occurred")).UTC(),
		Received: time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "received")).UTC(),
	}
	copy(h.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	for range rapid.IntRange(0, 3).Draw(t, "targets") {
		h.Targets = append(h.Targets, Target{
			Agent: name.Draw(t, "agent"), System: name.Draw(t, "to"), Route: name.Draw(t, "route"),
			Shadow: rapid.Bool().Draw(t, "shadow"), Fault: name.Draw(t, "fault"),
		})
	}
	return h
}

func drawItem(t *rapid.T) Item {
	return Item{Head: drawHead(t), Body: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "body")}
}

func drawBlock(t *rapid.T) (Origin, []Lane, []Item) {
	name := rapid.StringMatching(`[a-z]{1,8}`)
	from := Origin{Agent: name.Draw(t, "origin"), Epoch: rapid.Uint64().Draw(t, "epoch")}
	var to []Lane
	for range rapid.IntRange(1, 3).Draw(t, "lanes") {
		to = append(to, Lane{Agent: name.Draw(t, "lane"), First: rapid.Uint64Range(1, 1<<62).Draw(t, "first")})
	}
	items := rapid.SliceOfN(rapid.Custom(drawItem), 1, 6).Draw(t, "items")
	for i := range items { // most events of a block share their shape
		if i > 0 && rapid.Bool().Draw(t, "same shape") {
			own := items[i].Head
			items[i].Head = items[0].Head
			items[i].ID, items[i].Key, items[i].Occurred, items[i].Received = own.ID, own.Key, own.Occurred, own.Received
		}
	}
	return from, to, items
}

func sameItems(got, want []Item) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if !reflect.DeepEqual(got[i].Head, want[i].Head) || !bytes.Equal(got[i].Body, want[i].Body) {
			return false
		}
	}
	return true
}

func TestBlockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to, items := drawBlock(t)
		text, err := Cut(from, to, items)
		if err != nil {
			t.Fatal(err)
		}
		want := Envelope{Origin: from, To: to, Count: len(items)}
		e, err := ParseEnvelope(text)
		if err != nil || !reflect.DeepEqual(e, want) {
			t.Fatalf("envelope: got %+v, %v, want %+v", e, err, want)
		}
		e, heads, err := ParseHeads(text)
		if err != nil || !reflect.DeepEqual(e, want) || len(heads) != len(items) {
			t.Fatalf("heads: got %+v, %d, %v", e, len(heads), err)
		}
		for i := range heads {
			if !reflect.DeepEqual(heads[i], items[i].Head) {
				t.Fatalf("head %d: got %+v, want %+v", i, heads[i], items[i].Head)
			}
		}
		_, opened, err := Open(text)
		if err != nil || !sameItems(opened, items) {
			t.Fatalf("opened: got %+v, %v, want %+v", opened, err, items)
		}
		again, err := Cut(from, to, items)
		if err != nil || !bytes.Equal(again, text) {
			t.Fatal("cutting the same again gave other bytes")
		}
	})
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{Item: drawItem(t)}
		for i := range rapid.IntRange(0, 3).Draw(t, "numbers") {
			e.Numbers = append(e.Numbers, Number{Agent: fmt.Sprint("a", i), Seq: rapid.Uint64().Draw(t, "seq")})
		}
		prefix := []byte("before")
		text := AppendEntry(bytes.Clone(prefix), &e)
		whole := Entry{Item: Item{Head: e.Head, Body: AppendBody(nil, "key", e.Body)}, Numbers: e.Numbers}
		if got, want := AppendEvent(prefix, &e.Head, e.Numbers, "key", e.Body), AppendEntry(prefix, &whole); !bytes.Equal(got, want) {
			t.Fatalf("of key and event: got %x, want %x", got, want)
		}
		got, err := ParseEntry(text[len(prefix):])
		if err != nil || !sameItems([]Item{got.Item}, []Item{e.Item}) || !reflect.DeepEqual(got.Numbers, e.Numbers) {
			t.Fatalf("got %+v, %v, want %+v", got, err, e)
		}
		for _, n := range e.Numbers {
			if seq, ok := got.Number(n.Agent); !ok || seq != n.Seq {
				t.Fatalf("number of %s: got %d, %v", n.Agent, seq, ok)
			}
		}
	})
}

// Every bit of a block and of an entry is under a checksum or is checked itself.
func TestFlippedBitsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to, items := drawBlock(t)
		text, err := Cut(from, to, items)
		if err != nil {
			t.Fatal(err)
		}
		flip := func(b []byte, bit int) { b[bit/8] ^= 1 << (bit % 8) }
		for range 40 {
			bit := rapid.IntRange(0, len(text)*8-1).Draw(t, "bit")
			flip(text, bit)
			if _, err := ParseEnvelope(text); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("ParseEnvelope passed over bit %d: %v", bit, err)
			}
			if _, _, err := Open(text); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("Open passed over bit %d: %v", bit, err)
			}
			flip(text, bit)
		}
		entry := AppendEntry(nil, &Entry{Item: items[0], Numbers: []Number{{"a", 7}}})
		for bit := range len(entry) * 8 {
			flip(entry, bit)
			if _, err := ParseEntry(entry); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("ParseEntry passed over bit %d: %v", bit, err)
			}
			flip(entry, bit)
		}
		size := rapid.IntRange(0, len(text)-1).Draw(t, "size")
		if _, err := ParseEnvelope(text[:size]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a block cut to %d of %d bytes passed: %v", size, len(text), err)
		}
		if _, err := ParseEnvelope(append(text, 0)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a byte behind the block passed: %v", err)
		}
	})
}

func TestCutRefuses(t *testing.T) {
	one := []Item{{Body: []byte("x")}}
	lane := []Lane{{"a", 1}}
	large := make([]Item, MaxEvents)
	for i := range large {
		large[i].Body = make([]byte, 2<<10)
	}
	for name, cut := range map[string]func() ([]byte, error){
		"no events":              func() ([]byte, error) { return Cut(Origin{}, lane, nil) },
		"no lanes":               func() ([]byte, error) { return Cut(Origin{}, nil, one) },
		"many":                   func() ([]byte, error) { return Cut(Origin{}, lane, make([]Item, MaxEvents+1)) },
		"many lanes":             func() ([]byte, error) { return Cut(Origin{}, make([]Lane, maxLanes+1), one) },
		"what nobody could open": func() ([]byte, error) { return Cut(Origin{}, lane, large) },
	} {
		if text, err := cut(); err == nil {
			t.Errorf("%s: got %d bytes, want an error", name, len(text))
		}
	}
	if text, err := Cut(Origin{}, lane, make([]Item, MaxEvents)); err != nil {
		t.Error("a full block:", err)
	} else if _, items, err := Open(text); err != nil || len(items) != MaxEvents {
		t.Errorf("a full block opened to %d events, %v", len(items), err)
	}
}

// forge makes a block of any header and payload, with checksums that are right.
func forge(header, payload []byte) []byte {
	out := []byte(magic)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(header, castagnoli))
	out = binary.BigEndian.AppendUint32(out, uint32(len(header)))
	out = append(out, header...)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(payload, castagnoli))
	return append(out, payload...)
}

func TestForgedBlocks(t *testing.T) {
	text, err := Cut(Origin{"a", 1}, []Lane{{"b", 1}}, []Item{{Body: []byte("x")}})
	if err != nil {
		t.Fatal(err)
	}
	header, payload, err := split(text)
	if err != nil {
		t.Fatal(err)
	}
	payload = payload[4:]
	if !bytes.Equal(forge(header, payload), text) {
		t.Fatal("the forger does not know the layout")
	}
	enc, _ := coders()
	pack := func(b []byte) []byte { return enc.EncodeAll(b, nil) }
	envelope := func(lanes, count uint64) []byte {
		b := appendString(nil, "a")
		b = binary.AppendUvarint(b, 1)
		b = binary.AppendUvarint(b, lanes)
		for range min(lanes, 3) {
			b = binary.AppendUvarint(appendString(b, "b"), 1)
		}
		return binary.AppendUvarint(b, count)
	}
	for name, forged := range map[string][]byte{
		"bomb":                 forge(header, pack(make([]byte, 64<<20))),
		"bomb, many frames":    forge(header, bytes.Repeat(pack(make([]byte, 1<<20)), 64)),
		"payload is not zstd":  forge(header, []byte("hello, world")),
		"body longer than all": forge(header, pack(binary.AppendUvarint(nil, 1<<40))),
		"bytes after the last": forge(header, pack([]byte{1, 'x', 'y'})),
		"bytes after heads":    forge(append(bytes.Clone(header), 0), payload),
		"a billion lanes":      forge(envelope(1<<30, 1), payload),
		"a billion events":     forge(envelope(1, 1<<30), payload),
		"no events":            forge(envelope(1, 0), payload),
		"no lanes":             forge(envelope(0, 1), payload),
		"header cut short":     forge(header[:len(header)-1], payload),
		"empty header":         forge(nil, payload),
	} {
		if _, _, err := Open(forged); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		} else if strings.HasPrefix(name, "bomb") && !errors.Is(err, zstd.ErrDecoderSizeExceeded) && !errors.Is(err, zstd.ErrWindowSizeExceeded) {
			t.Errorf("%s: it was opened before it was refused: %v", name, err)
		}
	}
	if _, err := ParseEnvelope(make([]byte, MaxBytes+1)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("too long: got %v, want ErrCorrupt", err)
	}
}

func TestBody(t *testing.T) {
	body := AppendBody(nil, "key", []byte(`{"a":1}`))
	key, event, err := SplitBody(body)
	if err != nil || key != "key" || string(event) != `{"a":1}` {
		t.Errorf("got %q %q %v", key, event, err)
	}
	if _, _, err := SplitBody([]byte{200, 1}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a key longer than the body: got %v", err)
	}
}

func TestEnvelopeLast(t *testing.T) {
	e := Envelope{To: []Lane{{"a", 5}}, Count: 3}
	lane, ok := e.Lane("a")
	if !ok || e.Last(lane.First) != 7 {
		t.Errorf("got %v %v %d, want 5 to 7", lane, ok, e.Last(lane.First))
	}
	if _, ok := e.Lane("b"); ok {
		t.Error("a lane that is not there was found")
	}
}

func TestRevisionOrder(t *testing.T) {
	ascending := []Revision{{}, {0, 2}, {1, 1}, {1, 2}, {2, 0}}
	for i := range ascending {
		for j := range ascending {
			if ascending[i].Less(ascending[j]) != (i < j) {
				t.Errorf("%s less than %s: got %v", ascending[i], ascending[j], i >= j)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	text, err := Cut(Origin{"a", 1}, []Lane{{"b", 1}, {Control, 9}}, []Item{{Head: Head{Targets: []Target{{Agent: "b"}}}, Body: []byte("x")}, {Body: []byte("y")}})
	if err != nil {
		f.Fatal(err)
	}
	header, payload, err := split(text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(header, payload[4:])
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		text := forge(header, payload) // checksums would stop nearly everything at the door
		e, items, err := Open(text)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want ErrCorrupt", err)
			}
			return
		}
		if len(items) != e.Count || len(items) == 0 {
			t.Fatalf("%d events in a block of %d", len(items), e.Count)
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add(AppendEntry(nil, &Entry{Item: Item{Body: []byte("x")}, Numbers: []Number{{"a", 1}}})[4:])
	f.Fuzz(func(t *testing.T, rest []byte) {
		text := binary.BigEndian.AppendUint32(nil, crc32.Checksum(rest, castagnoli))
		if _, err := ParseEntry(append(text, rest...)); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("got %v, want ErrCorrupt", err)
		}
	})
}
