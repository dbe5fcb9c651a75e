package material

import (
	"bytes"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/crossdock/crossdock/protocol/block"
)

func TestOrdersAreAsLargeAndAsRepetitiveAsRealOnes(t *testing.T) {
	o := NewOrders(1)
	var all []byte
	for i := range block.MaxEvents {
		all = o.Append(all, i)
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	size := float64(len(all)) / block.MaxEvents
	ratio := float64(len(all)) / float64(len(encoder.EncodeAll(all, nil)))
	t.Logf("%.0f bytes, compressed %.2f times", size, ratio)
	if size < 970 || size > 1080 || ratio < 3.4 || ratio > 3.8 {
		t.Errorf("an event has %.0f bytes and compresses %.2f times; want about 1024 and 3.6", size, ratio)
	}
}

func TestOrdersSatisfyTheContract(t *testing.T) {
	dir := t.TempDir()
	if err := WritePolicy(dir, "127.0.0.1:8080", Batch); err != nil {
		t.Fatal(err)
	}
	set, err := ReadPolicy(dir)
	if err != nil {
		t.Fatal(err)
	}
	contract := set.Contracts["order.captured"]
	o := NewOrders(1)
	for i := range variants {
		text, data, err := o.JSON(i)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		_, violations, err := contract.Versions[0].Validate(data)
		for try := 0; try < 10 && len(violations) == 1 && violations[0].Rule == "pattern" && violations[0].Path == ""; try++ {
			_, violations, err = contract.Versions[0].Validate(data) // no verdict: the machine was too busy
		}
		if err != nil || len(violations) > 0 {
			t.Fatalf("%s: %v %v", text, violations, err)
		}
		if serial, err := Serial(text); err != nil || serial != i {
			t.Fatalf("%s has number %d, %v", text, serial, err)
		}
	}
	if a, b := o.Append(nil, 7), o.Append(nil, 7+variants); bytes.Equal(a, b) || len(a) != len(b) {
		t.Error("two numbers make one order, or sizes differ")
	}
	for _, foreign := range []string{`{"id":"other"}`, `[{"id":"other"}]`, `[`, ``} {
		if _, err := Serial([]byte(foreign)); err == nil {
			t.Errorf("the foreign event %s has a number", foreign)
		}
		if got, err := Serials([]byte(foreign)); err == nil {
			t.Errorf("the foreign batch %s has the numbers %d", foreign, got)
		}
	}
	batch := []byte("[")
	for i := range 3 {
		batch = append(o.Append(batch, 5+i), ",]"[i/2])
	}
	if got, err := Serials(batch); err != nil || !slices.Equal(got, []int{5, 6, 7}) {
		t.Errorf("got the numbers %d, %v", got, err)
	}
}
