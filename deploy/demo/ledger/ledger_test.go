package ledger

import (
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func entry(act Act, id, key string) Entry {
	return Entry{Act: act, ID: id, Source: "/shop", Type: "order.captured.v1", Key: key}
}

// history is a clean one: six events of two keys, sent and taken.
func history() (sent, taken []Entry) {
	for i := range 6 {
		sent = append(sent, entry(Sent, fmt.Sprint(i), fmt.Sprint("k", i%2)))
		taken = append(taken, entry(Taken, fmt.Sprint(i), fmt.Sprint("k", i%2)))
	}
	return sent, taken
}

func TestReconcileSeesEachFault(t *testing.T) {
	flow := Flow{Source: "shop", To: "erp", Owed: func(Entry) bool { return true }}
	for _, c := range []struct {
		name   string
		spoil  func(sent, taken []Entry) ([]Entry, []Entry)
		counts [4]int // missing, duplicated, out of order, unowed
	}{
		{"clean", func(s, t []Entry) ([]Entry, []Entry) { return s, t }, [4]int{}},
		{"keys may pass each other", func(s, t []Entry) ([]Entry, []Entry) { t[0], t[1] = t[1], t[0]; return s, t }, [4]int{}},
		{"one removed", func(s, t []Entry) ([]Entry, []Entry) { return s, slices.Delete(t, 2, 3) }, [4]int{1, 0, 0, 0}},
		{"one doubled", func(s, t []Entry) ([]Entry, []Entry) { return s, append(t, t[5]) }, [4]int{0, 1, 0, 0}},
		{"two of a key swapped", func(s, t []Entry) ([]Entry, []Entry) { t[0], t[2] = t[2], t[0]; return s, t }, [4]int{0, 0, 1, 0}},
		{"one never sent", func(s, t []Entry) ([]Entry, []Entry) { return s, append(t, entry(Taken, "x", "k0")) }, [4]int{0, 0, 0, 1}},
		{"a recognised repeat", func(s, t []Entry) ([]Entry, []Entry) { return s, append(t, entry(Repeat, "1", "k1")) }, [4]int{}},
	} {
		sent, taken := c.spoil(history())
		o := Reconcile(map[string][]Entry{"shop": sent, "erp": taken}, []Flow{flow})
		got := [4]int{len(o[0].Missing), len(o[0].Duplicated), len(o[0].OutOfOrder), len(o[0].Unowed)}
		if got != c.counts {
			t.Errorf("%s: got %v, want %v", c.name, got, c.counts)
		}
		if clean := Print(io.Discard, o); clean != (c.counts == [4]int{}) {
			t.Errorf("%s: printed as clean: %v", c.name, clean)
		}
	}
}

func TestNothingSentIsNotClean(t *testing.T) {
	if Print(io.Discard, Reconcile(nil, []Flow{{Owed: func(Entry) bool { return true }}})) {
		t.Error("an empty history counts as clean")
	}
}

func TestLedgerReadsBackWhatItWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.jsonl")
	l, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	sent, _ := history()
	sent[0].Call = &Call{Status: "calculated", Amount: "1.20", Currency: "USD", Numbers: []string{"NW1"}, Papers: []Paper{{"label", "a", "b"}}}
	for _, e := range sent {
		if err := l.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil || !reflect.DeepEqual(got, sent) || !reflect.DeepEqual(l.Entries(), sent) {
		t.Errorf("got %v, %v", got, err)
	}
}
