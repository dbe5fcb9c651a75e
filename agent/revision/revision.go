// Package revision owns the policy revision that is in force at this agent: on disk for
// the next start, compiled for the parts that ask.
//
// It refuses to know where revisions come from and what their documents mean. Its
// invariant: a revision is in force wholly or not at all, and revisions only ever rise in
// the order of (generation, number).
package revision

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

const (
	fileName   = "revision"
	maxRefused = 2 << 10 // bytes of why a revision is not in force
)

// header is the first line of the file; the bundle follows it.
type header struct {
	Revision block.Revision `json:"revision"`
	Digest   []byte         `json:"digest"` // of the opened bundle
	Check    []byte         `json:"check"`  // SHA-256 of the encoded bundle

	Begun map[string]block.Revision `json:"begun,omitempty"`
}

// ErrNotKept is what Offer says when the disk did not take a revision: it may take it later.
var ErrNotKept = errors.New("the policy revision could not be stored")

// Offered is a revision as it is sent.
type Offered struct {
	Number block.Revision
	Digest []byte // of the opened bundle
	Bundle []byte // encoded
	Begun  map[string]block.Revision
}

// Holder holds the revision in force.
type Holder struct {
	dir string
	log *slog.Logger
	set atomic.Pointer[policy.Set] // nil: none yet

	mu      sync.Mutex // serialises Offer, guards what follows
	first   func(set *policy.Set)
	refused string        // why the newest offer is not in force
	changed chan struct{} // closed when another revision comes into force
}

// Open takes up the revision that was in force last. A file that does not compile is an
// error: starting without policy would refuse every event in silence.
func Open(dir string, log *slog.Logger) (*Holder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	h := &Holder{dir: dir, log: log, changed: make(chan struct{})}
	path := filepath.Join(dir, fileName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	} else if err != nil {
		return nil, err
	}
	set, err := parse(text)
	if err != nil {
		// The control plane sends it again; until then the agent accepts nothing new.
		log.Error("the stored policy revision is damaged; waiting for the control plane", "file", path, "err", err)
		h.refused = clip(fmt.Sprintf("stored revision is damaged: %v", err))
		return h, nil
	}
	h.set.Store(set)
	return h, nil
}

func parse(text []byte) (*policy.Set, error) {
	first, bundle, ok := bytes.Cut(text, []byte("\n"))
	if !ok {
		return nil, errors.New("cut short")
	}
	var head header
	if err := json.Unmarshal(first, &head); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(bundle); !bytes.Equal(sum[:], head.Check) {
		return nil, errors.New("checksum")
	}
	return Offered{head.Revision, head.Digest, bundle, head.Begun}.Compile()
}

// Compile makes a set of an encoded bundle, or says the first thing that is wrong with it.
func (o Offered) Compile() (*policy.Set, error) {
	bundle, err := policy.DecodeBundle(o.Bundle)
	if err != nil {
		return nil, err
	}
	if got := bundle.Digest(); !bytes.Equal(got[:], o.Digest) {
		return nil, fmt.Errorf("digest is %x, announced was %x", got[:8], o.Digest)
	}
	set, problems := policy.Load(bundle)
	if set == nil {
		return nil, fmt.Errorf("does not compile here: %w", problems)
	}
	set.Revision, set.Begun = o.Number, o.Begun
	return set, nil
}

// Set is the policy in force, nil if there is none yet.
func (h *Holder) Set() *policy.Set { return h.set.Load() }

// Held is the revision in force, zero if there is none yet.
func (h *Holder) Held() block.Revision {
	if set := h.set.Load(); set != nil {
		return set.Revision
	}
	return block.Revision{}
}

// Since is when the revision that is held was put in force here; zero: there is none.
func (h *Holder) Since() time.Time {
	info, err := os.Stat(filepath.Join(h.dir, fileName))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Refused says why the newest offered revision is not in force; empty if it is.
func (h *Holder) Refused() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused
}

// Changed is closed when another revision comes into force.
func (h *Holder) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// First has f called with each revision that comes into force, when it is on disk and before
// anybody else sees it.
func (h *Holder) First(f func(set *policy.Set)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first = f
}

// Offer puts a newer revision in force: compiled first, then on disk, then for everybody.
// An older or equal one changes nothing. ErrNotKept.
func (h *Holder) Offer(o Offered) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.Held().Less(o.Number) {
		return nil
	}
	if err := h.replace(o); err != nil {
		h.refused = clip(fmt.Sprintf("revision %s: %v", o.Number, err))
		return err
	}
	h.refused = ""
	close(h.changed)
	h.changed = make(chan struct{})
	h.log.Info("policy revision in force", "revision", o.Number)
	return nil
}

// clip bounds what a report says: a policy with many problems would make it too long to
// be taken, and the acknowledgement that it travels with too.
func clip(text string) string {
	if len(text) > maxRefused {
		text = strings.ToValidUTF8(text[:maxRefused], "") + " ..."
	}
	return text
}

func (h *Holder) replace(o Offered) error {
	set, err := o.Compile()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(o.Bundle)
	first, err := json.Marshal(header{Revision: o.Number, Digest: o.Digest, Check: sum[:], Begun: o.Begun})
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(h.dir, fileName), append(append(first, '\n'), o.Bundle...), 0o600); err != nil {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	if h.first != nil {
		h.first(set)
	}
	h.set.Store(set)
	return nil
}
