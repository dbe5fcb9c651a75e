package peer

import (
	"bytes"
	"net"
	"testing"
)

func FuzzPreface(f *testing.F) {
	var good bytes.Buffer
	if err := writeFrame(&good, preface{"c1", "i1", "n1", "n2"}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0xff, 0xff})
	f.Add([]byte{0, 1, 0xbf})
	f.Fuzz(func(t *testing.T, text []byte) {
		var said preface
		if err := readFrame(bytes.NewReader(text), &said); err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, said); err != nil && again.Len() > maxPreface {
			t.Errorf("%+v was read but cannot be written: %v", said, err)
		}
	})
}

// Strangers and nodes have places of their own; who proves to be a node leaves the others'.
func TestTableLimits(t *testing.T) {
	table := &table{open: map[*conn]bool{}}
	take := func() *conn {
		one, two := net.Pipe()
		t.Cleanup(func() { two.Close() })
		return table.take(one)
	}
	var held []*conn
	for range maxStrangers {
		held = append(held, take())
	}
	late := take() // a newcomer always has a place: the oldest goes
	if late == nil || len(table.waiting) != maxStrangers || held[0].proven() {
		t.Error("there is no limit on strangers, or a newcomer is kept out")
	}
	held[1].Close()
	held[1].Close() // twice
	if len(table.waiting) != maxStrangers-1 {
		t.Errorf("%d strangers after one has gone", len(table.waiting))
	}
	if !late.proven() || len(table.waiting) != maxStrangers-2 {
		t.Error("a node keeps a stranger's place")
	}
	table.close()
	if len(table.waiting) != 0 || table.nodes != 0 || take() != nil || held[2].proven() {
		t.Errorf("after the end: %d strangers, %d nodes", len(table.waiting), table.nodes)
	}
}
