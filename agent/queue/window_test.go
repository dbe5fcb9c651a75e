package queue

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
)

// torn is a file of which some bytes cannot be read.
type torn struct {
	text     []byte
	from, to int64
	reads    int
}

var errTorn = errors.New("input/output error")

func (f *torn) ReadAt(p []byte, off int64) (int, error) {
	f.reads++
	end := off + int64(len(p))
	if off < f.to && end > f.from {
		return copy(p, f.text[off:max(off, f.from)]), errTorn
	}
	return bytes.NewReader(f.text).ReadAt(p, off)
}

func TestWindowReadsWhatTheFileHas(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	text := make([]byte, 5*windowBytes+123)
	for i := range text {
		text[i] = byte(random.Uint32())
	}
	f := &torn{text: text, from: 2*windowBytes + 5000, to: 2*windowBytes + 5001}
	w := &window{file: f}
	for range 2000 {
		off := random.Int64N(int64(len(text)) + 100)
		p, want := make([]byte, 1+random.IntN(9000)), make([]byte, 9000)
		want = want[:len(p)]
		n, err := w.ReadAt(p, off)
		wantN, wantErr := f.ReadAt(want, off)
		if !errors.Is(err, wantErr) || n != wantN || !bytes.Equal(p[:n], want[:wantN]) {
			t.Fatalf("seed %d: %d bytes at %d: %d, %v; want %d, %v", seed, len(p), off, n, err, wantN, wantErr)
		}
	}
	if _, err := w.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("something was read before the beginning")
	}
}

func TestWindowReadsFewTimes(t *testing.T) {
	f := &torn{text: make([]byte, 4*windowBytes), from: -1, to: -1}
	w := &window{file: f}
	p := make([]byte, 4096)
	for off := int64(0); off < int64(len(f.text)); off += int64(len(p)) {
		if _, err := io.ReadFull(io.NewSectionReader(w, off, int64(len(p))), p); err != nil {
			t.Fatal(err)
		}
	}
	if f.reads != 4 {
		t.Errorf("%d reads of a file of 4 windows", f.reads)
	}
}
