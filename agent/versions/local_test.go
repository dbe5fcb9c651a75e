package versions

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/release"
)

// write makes a directory of a release, or a .tar.gz of it.
func write(t *testing.T, o Offer, content []byte, packed bool) string {
	t.Helper()
	files := []struct {
		name string
		text []byte
	}{{"release/linux-any/crossdock-agent", content}, {"release/manifest.json", o.Manifest}, {"release/manifest.json.minisig", o.Signature}}
	dir := t.TempDir()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		if f.text == nil {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.text, 0o600),
			w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.text))})); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.text); err != nil {
			t.Fatal(err)
		}
	}
	if !packed {
		return dir
	}
	file := filepath.Join(dir, "release.tar.gz")
	if err := errors.Join(w.Close(), z.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReleaseFromAFile(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	tampered := bytes.Clone(content)
	tampered[7]++
	unsigned := s.offer("1.1.0", "", content)
	unsigned.Signature = nil
	for _, c := range []struct {
		name    string
		offer   Offer
		content []byte
		want    string
	}{
		{"good", s.offer("1.1.0", "", content), content, ""},
		{"tampered", s.offer("1.1.0", "", content), tampered, "crossdock-agent is not the file of the signed manifest"},
		{"cut off", s.offer("1.1.0", "", content), content[:100], "crossdock-agent is not the file of the signed manifest"},
		{"without the program", s.offer("1.1.0", "", content), nil, "has no crossdock-agent for"},
		{"unsigned", unsigned, content, "not signed"},
		{"signed by another", other.offer("1.1.0", "", content), content, "not trusted here"},
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s packed=%t", c.name, packed), func(t *testing.T) {
				from, data := write(t, c.offer, c.content, packed), t.TempDir()
				stopped := Stopped{Store: NewStore(filepath.Join(data, "versions"), s.keys(), nil), Data: data, Installed: "1.0.0"}
				version, err := stopped.Upgrade(from)
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("%v, want %q", err, c.want)
					}
					if got := launcher(stopped.Store, "1.0.0").next(); got != installed {
						t.Errorf("%s runs", got)
					}
					return
				}
				if err != nil || version != "1.1.0" {
					t.Fatal(version, err)
				}
				if got := launcher(stopped.Store, "1.0.0").next(); got != "1.1.0" {
					t.Errorf("%s runs", got)
				}
				if back, err := stopped.Rollback("no"); err != nil || back != "1.0.0" {
					t.Errorf("back to %s, %v", back, err)
				}
				if got := launcher(stopped.Store, "1.0.0").next(); got != installed {
					t.Errorf("after the rollback %s runs", got)
				}
			})
		}
	}
}

// TestStatusWhileAReleaseIsHandedIn: who sends slowly holds up nobody but himself.
func TestStatusWhileAReleaseIsHandedIn(t *testing.T) {
	s := newSigner(t)
	from := hold(t, s, t.TempDir(), "1.1.0")
	h := newHand(t, s, t.TempDir(), nil)
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := h.Upgrade(read)
		done <- err
	}()
	var all bytes.Buffer
	if err := from.Send("1.1.0", &all); err != nil {
		t.Fatal(err)
	}
	const end = 512 + 1024                                                // the block of the program, and what ends the archive
	if _, err := write.Write(all.Next(all.Len() - end + 2)); err != nil { // it is in the middle of the program now
		t.Fatal(err)
	}
	asked := make(chan Status, 1)
	go func() { asked <- h.Status() }()
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("the status waits for who sends")
	}
	if _, err := h.Upgrade(strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "another release is being received") {
		t.Errorf("a second one: %v", err)
	}
	h.tidy() // leaves what comes in
	if _, err := write.Write(all.Next(len("1.1.0") - 2)); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := h.store.Check("1.1.0"); err != nil {
		t.Error(err)
	}
}

// TestReportStaysAsItWasGiven: it is read while the agent goes on.
func TestReportStaysAsItWasGiven(t *testing.T) {
	s := newSigner(t)
	h := newHand(t, s, t.TempDir(), nil)
	r, err := h.Report()
	if err != nil {
		t.Fatal(err)
	}
	h.Want(s.offer("1.1.0", "1", content))
	if r.Status == nil || r.Status.State != Current || r.Status.Wanted != "" || h.Status().State != Fetching {
		t.Errorf("%+v was given before %+v", r.Status, h.Status())
	}
}

// TestReleaseHandedToARunningAgent: what comes from the command is believed no more than what
// comes over the line.
func TestReleaseHandedToARunningAgent(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	send := func(s *signer, spoil func(store *Store)) *bytes.Buffer {
		store := hold(t, s, t.TempDir(), "1.1.0")
		spoil(store)
		var b bytes.Buffer
		if err := store.Send("1.1.0", &b); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	h := newHand(t, s, t.TempDir(), nil)
	if _, err := h.Upgrade(send(other, func(*Store) {})); !errors.Is(err, release.ErrUnknownKey) {
		t.Errorf("of another key: %v", err)
	}
	if _, err := h.Upgrade(send(s, func(store *Store) {
		if err := os.WriteFile(store.Program("1.1.0"), []byte("1.1.1"), 0o600); err != nil {
			t.Fatal(err)
		}
	})); !errors.Is(err, errDiffers) {
		t.Errorf("tampered: %v", err)
	}
	if st := h.Status(); st.State != Failed {
		t.Errorf("%+v", st)
	}
	if version, err := h.Upgrade(send(s, func(*Store) {})); err != nil || version != "1.1.0" {
		t.Fatal(version, err)
	}
	if err := h.run(t, nil); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
}
