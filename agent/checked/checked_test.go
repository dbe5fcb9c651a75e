package checked

import (
	"encoding/hex"
	"errors"
	"slices"
	"testing"
)

// The form is on the disks of sites.
func TestForm(t *testing.T) {
	kept, err := Encode([]byte("calls"), []byte("k"), map[string]int{"n": 7})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(kept), "5d52bed97b226e223a377d"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestEveryBitIsSeen(t *testing.T) {
	bucket, k := []byte("calls"), []byte("k")
	kept, err := Encode(bucket, k, "a text")
	if err != nil {
		t.Fatal(err)
	}
	var got string
	if err := Decode(bucket, k, kept, &got); err != nil || got != "a text" {
		t.Fatalf("%q %v", got, err)
	}
	for bit := range len(kept) * 8 {
		turned := slices.Clone(kept)
		turned[bit/8] ^= 1 << (bit % 8)
		if err := Decode(bucket, k, turned, &got); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	for what, err := range map[string]error{
		"other bucket": Decode([]byte("keys"), k, kept, &got), "other key": Decode(bucket, []byte("l"), kept, &got),
		"cut off": Decode(bucket, k, kept[:len(kept)-1], &got), "nothing": Decode(bucket, k, nil, &got),
	} {
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
