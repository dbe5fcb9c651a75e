package state

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// FuzzApply: whatever a command says, it is applied or refused. An error of Apply ends every
// node of the cluster, so none may depend on what is in a command.
func FuzzApply(f *testing.F) {
	for _, cmd := range everyCommand() {
		text, err := Encode(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text[0], text[6:])
	}
	seed := openMachine(f)
	history(seed, 1)
	agent, _ := seed.Agent("eu")
	to := []block.Lane{{Agent: "ho", First: 1}, {Agent: block.Control, First: 1}}
	text := encode(f, &model.Push{At: seed.now, Agent: "eu", Epoch: agent.Epoch, Blocks: [][]byte{cut(seed, "eu", agent.Epoch, to, plain(3, 10)...)}})
	f.Add(text[4], text[10:])
	dir := f.TempDir()
	var m *Machine
	left := 0
	f.Cleanup(func() {
		if m != nil {
			m.Close()
		}
	})
	const lasts = 2000 // commands, then the machine begins anew: it would be full some day
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		cmd, err := Decode(sealed(kind, body))
		if err != nil {
			return
		}
		if left == 0 {
			if m != nil {
				m.Close()
			}
			own, err := os.MkdirTemp(dir, "")
			if err != nil {
				t.Fatal(err)
			}
			if m, err = Open(testConfig(own)); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Apply(seed.log); err != nil {
				t.Fatal(err)
			}
			left = lasts
		}
		left--
		entry := Entry{Index: m.AppliedIndex() + 1, Term: 1, Data: AppendToEntry(nil, sealed(kind, body))}
		out, err := m.Apply([]Entry{entry})
		if err != nil {
			left = 0
			t.Fatalf("%T: %v", cmd, err)
		}
		if r := out.Results[0][0]; r.Err != nil && (r.Err.Code == "" || r.Err.Text == "") {
			t.Fatalf("%T is refused without a word: %+v", cmd, r.Err)
		}
	})
}

// FuzzReceive: a snapshot that comes from another node, or from a backup, is taken whole or
// not at all.
func FuzzReceive(f *testing.F) {
	f.Add(framed([]byte("nonsense")), false)
	f.Add([]byte("nonsense"), true)
	f.Add([]byte{}, true)
	flipped := framed([]byte("nonsense"))
	flipped[17] ^= 1
	f.Add(flipped, false)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, frame bool) {
		if frame {
			text = framed(text)
		}
		file := filepath.Join(dir, "received")
		if err := receive(file, bytes.NewReader(text)); err != nil {
			if frame || !errors.Is(err, ErrSnapshot) {
				t.Fatalf("%x: %v", text, err)
			}
			return
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(text, framed(got)) {
			t.Fatalf("%x is taken for %x", text, got)
		}
	})
}
