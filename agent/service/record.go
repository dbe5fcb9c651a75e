package service

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// record is what installations have written on this machine. It is the administrator's file,
// in a directory that the agent's user cannot write to: else who holds the agent could have an
// administrator remove what he likes.
type record struct {
	Data  string              `json:"data,omitempty"` // the agent's data directory
	User  bool                `json:"user,omitempty"` // the installation made the user
	Files map[string]recorded `json:"files"`          // by path on the machine, without Machine.Root
}

// recorded is one file as it was written.
type recorded struct {
	SHA256 string `json:"sha256"`
	Former string `json:"former,omitempty"` // of the file that this one replaces: an installation may break off
	Keep   bool   `json:"keep,omitempty"`   // it stays until all is purged: the configuration
}

func (m *Machine) recordFile() string { return m.at(recordPath) }

// at is where a path of the machine is.
func (m *Machine) at(path string) string {
	if m.Root == "" {
		return path
	}
	return filepath.Join(m.Root, path)
}

func (m *Machine) readRecord() (record, error) {
	r := record{Files: map[string]recorded{}}
	text, err := os.ReadFile(m.recordFile())
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("what was installed here: %s: %w", m.recordFile(), err)
	}
	if r.Files == nil {
		r.Files = map[string]recorded{}
	}
	return r, nil
}

// writeRecord keeps the record as long as there is anything to remember.
func (m *Machine) writeRecord(r record) error {
	if len(r.Files) == 0 && !r.User {
		if err := os.Remove(m.recordFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.recordFile()), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(m.recordFile(), append(text, '\n'), 0o644)
}

// Note remembers the configuration that an enrolment has written, so that it goes when all is
// purged, unless somebody has changed it by then.
func (m *Machine) Note(path string) error {
	r, err := m.readRecord()
	if err != nil {
		return err
	}
	sum, err := sumOf(m.at(path))
	if err != nil {
		return err
	}
	r.Files[path] = recorded{SHA256: sum, Keep: true}
	return m.writeRecord(r)
}

// DataNoted is the data directory of the last installation, "" if there was none.
func (m *Machine) DataNoted() string {
	r, err := m.readRecord()
	if err != nil {
		return ""
	}
	return r.Data
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// as reports how a file stands to the record: "" it is not there, "ours" as it was written,
// "changed" since, "foreign" never written by an installation.
func (m *Machine) as(r record, path string) (string, error) {
	sum, err := sumOf(m.at(path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	known, ok := r.Files[path]
	switch {
	case !ok:
		return "foreign", nil
	case known.SHA256 != sum && known.Former != sum:
		return "changed", nil
	}
	return "ours", nil
}

// file is one that an installation writes.
type file struct {
	path string
	mode fs.FileMode
	text []byte
}

// put writes a file of an installation, notes it first, and leaves one alone that somebody
// else has written. It reports whether the file is another one now.
func (m *Machine) put(r *record, f file) (bool, error) {
	sum := sha256.Sum256(f.text)
	want := hex.EncodeToString(sum[:])
	state, err := m.as(*r, f.path)
	if err != nil {
		return false, err
	}
	if there, err := sumOf(m.at(f.path)); err == nil && there == want {
		return false, nil // who wrote it does not matter
	}
	if state == "foreign" || state == "changed" {
		return false, fmt.Errorf("%s: %w: move it away, or remove it", m.at(f.path), ErrForeign)
	}
	former := r.Files[f.path]
	r.Files[f.path] = recorded{SHA256: want, Former: former.SHA256}
	if err := m.writeRecord(*r); err != nil {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(m.at(f.path)), 0o755); err != nil {
		return false, err
	}
	if err := atomicfile.Write(m.at(f.path), f.text, f.mode); err != nil {
		return false, err // the former file, if there was one, is still there as it was
	}
	m.say("wrote %s", m.at(f.path))
	return true, nil
}
