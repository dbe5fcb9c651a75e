package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

func everyResult() []any {
	return []any{
		&model.EnrollResult{Agent: model.Agent{Name: "eu", Epoch: 2, Key: hashOf("k"), Enrolled: start, Nonce: [16]byte{1}}},
		&model.RenewResult{Recoveries: 3},
		&model.Revision{ID: block.Revision{Generation: 1, Number: 2}, Sites: []string{"eu"}, Canary: []string{"eu"}, Moves: []model.Move{{System: "a", Old: "b"}}},
		&model.PushResult{Lanes: []model.LaneAnswer{{Destination: "ho", Highwater: 1 << 60, Full: true}}},
		&model.GreetResult{Stale: true, Epoch: 4},
		&model.NewEpochResult{Epoch: 5},
		&model.BehindResult{Sources: []string{"eu", "na"}},
		&model.Authority{ID: "a", Certificate: []byte{1}, State: model.AuthorityNext, Created: start},
		&model.NumberBlock{First: 1, Last: 1 << 60},
	}
}

func TestResultsRoundTrip(t *testing.T) {
	kinds := map[byte]bool{}
	for _, want := range append(everyResult(), nil) {
		text, err := EncodeResult(want, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, refusal, err := DecodeResult(text)
		if err != nil || refusal != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, %v, want %+v", got, refusal, err, want)
		}
		kinds[text[0]] = true
	}
	refusal := model.Errorf(model.Conflict, "no: %d", 1)
	text, err := EncodeResult(&model.RenewResult{}, refusal)
	if err != nil {
		t.Fatal(err)
	}
	if got, cmdErr, err := DecodeResult(text); err != nil || got != nil || cmdErr == nil || *cmdErr != *refusal {
		t.Errorf("a refusal became %+v, %v, %v", got, cmdErr, err)
	}
	kinds[text[0]] = true
	if len(kinds) != int(resultsEnd)-1 {
		t.Errorf("%d of %d kinds are tested", len(kinds), resultsEnd-1)
	}
	if _, err := EncodeResult(&model.Mail{}, nil); err == nil {
		t.Error("a value that is no result was encoded")
	}
}

// Every rule's answer can travel.
func TestEveryAnswerHasAKind(t *testing.T) {
	f := openMachine(t)
	history(f, 1)
	g := openMachine(t)
	out, err := g.Apply(f.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, rs := range out.Results {
		for _, r := range rs {
			text, err := EncodeResult(r.Value, r.Err)
			if err != nil {
				t.Fatal(err)
			}
			value, refusal, err := DecodeResult(text)
			if err != nil || !reflect.DeepEqual(value, r.Value) || !reflect.DeepEqual(refusal, r.Err) {
				t.Fatalf("%+v became %+v, %v, %v", r, value, refusal, err)
			}
		}
	}
}

func TestDamagedResult(t *testing.T) {
	text, _ := EncodeResult(&model.RenewResult{Recoveries: 3}, nil)
	for i := range text {
		for bit := range 8 {
			d := bytes.Clone(text)
			d[i] ^= 1 << bit
			if _, _, err := DecodeResult(d); err != nil && !errors.Is(err, ErrResult) {
				t.Fatalf("byte %d: %v", i, err)
			} else if err == nil && i > 0 {
				t.Fatalf("byte %d, bit %d: not noticed", i, bit)
			}
		}
	}
	if _, _, err := DecodeResult(text[:5]); !errors.Is(err, ErrResult) {
		t.Errorf("cut short: %v", err)
	}
}

func FuzzDecodeResult(f *testing.F) {
	for _, value := range everyResult() {
		text, err := EncodeResult(value, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text[0], text[frameHead:])
	}
	f.Add(resultError, []byte{0xf6})
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		head := binary.BigEndian.AppendUint32([]byte{kind, version}, crc32.Checksum(body, castagnoli))
		value, refusal, err := DecodeResult(append(head, body...))
		if err != nil {
			if !errors.Is(err, ErrResult) {
				t.Fatalf("not ErrResult: %v", err)
			}
			return
		}
		if value != nil && refusal != nil {
			t.Fatal("both a value and a refusal")
		}
		text, err := EncodeResult(value, refusal)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		if _, _, err := DecodeResult(text); err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
	})
}
