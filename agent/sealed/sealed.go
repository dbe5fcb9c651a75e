// Package sealed owns the secrets that were sealed to this agent: files that only its key
// opens, and what they hold while somebody uses it.
//
// It refuses to know who brings them and what they are for. Its invariants: what is on the
// disk is sealed; a secret that was taken is there after any crash and while the line is cut;
// and one that does not open, or is older than what is held, changes nothing.
package sealed

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// MaxSecrets bounds what an agent holds.
const MaxSecrets = 500

// ErrNotFound marks a secret that this agent does not hold.
var ErrNotFound = errors.New("secret not found")

// Config of a Store.
type Config struct {
	Dir     string
	Cluster string
	Agent   string
	Key     string // of age; empty: nothing opens
	Fault   error  // why there is no key
	Now     func() time.Time
	Logger  *slog.Logger
	Changed func() // told after a secret has changed; may be nil
}

// Secret is one as it is brought and kept.
type Secret struct {
	Name        string    `json:"name"` // owner/name
	Version     uint64    `json:"version"`
	Sealed      []byte    `json:"sealed,omitempty"` // empty: it is dropped
	Former      []byte    `json:"former,omitempty"`
	FormerUntil time.Time `json:"formerUntil,omitzero"` // zero: until it is dropped
}

// Mark says which change of a secret is held.
type Mark struct {
	Name    string
	Version uint64
}

// Status is how a secret stands here.
type Status struct {
	Name    string   `json:"name"`
	Version uint64   `json:"version"`           // held; 0: none
	Refused string   `json:"refused,omitempty"` // why it cannot be used, or a newer one was not taken
	Only    []string `json:"only,omitempty"`    // the hosts that it may be sent to; empty: any
	Dropped bool     `json:"dropped,omitempty"` // there is no value any more, and the version says since which change
}

// Store keeps the secrets of this agent. It is safe for concurrent use.
type Store struct {
	cfg Config

	mu   sync.Mutex // guards held and refused
	held map[string]*entry
	// refused is why the newest of a name that was brought was not taken.
	refused map[string]string
}

// kept is a secret as it is on the disk.
type kept struct {
	Secret
	// Floor is the highest version that was opened here. One that was dropped does not come back
	// as an older value, which may have been sealed without a restriction.
	Floor uint64 `json:"floor,omitempty"`
}

// entry is a secret with what it holds, once somebody has asked.
type entry struct {
	kept
	current *opened
	former  *opened
}

type opened struct {
	sealing.Secret
	err error
}

// Open reads what is on the disk, and writes nothing.
func Open(cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, held: map[string]*entry{}, refused: map[string]string{}}
	files, err := os.ReadDir(cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sealed secrets: %w", err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), suffix) || strings.HasPrefix(file.Name(), ".") {
			continue
		}
		path := filepath.Join(cfg.Dir, file.Name())
		text, err := os.ReadFile(path)
		var one kept
		if err == nil {
			err = json.Unmarshal(text, &one)
		}
		if err == nil && fileOf(one.Name) != file.Name() {
			err = fs.ErrInvalid
		}
		if err != nil { // the control plane has it, and brings it again
			cfg.Logger.Error("a sealed secret cannot be read; it comes again when the line is up", "file", path, "err", err)
			continue
		}
		s.held[one.Name] = &entry{kept: one}
	}
	return s, nil
}

const suffix = ".json"

// fileOf makes a file name that every system takes.
func fileOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16]) + suffix
}

// Marks says what is held, by name.
func (s *Store) Marks() (marks []Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.held {
		marks = append(marks, Mark{e.Name, e.Version})
	}
	slices.SortFunc(marks, func(a, b Mark) int { return cmp.Compare(a.Name, b.Name) })
	return marks
}

// Version says which change of a secret is held; 0: none.
func (s *Store) Version(name string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.held[name]; e != nil {
		return e.Version
	}
	return 0
}

// Take keeps a secret that was brought. An error says that it could not be kept now and
// should be tried again; one that is refused for good shows in Status, and what was held
// stays in use.
func (s *Store) Take(one Secret) error {
	s.mu.Lock()
	changed, err := s.take(one)
	s.mu.Unlock()
	if changed && s.cfg.Changed != nil {
		s.cfg.Changed()
	}
	return err
}

func (s *Store) take(one Secret) (changed bool, err error) {
	old := s.held[one.Name]
	if old != nil && one.Version <= old.Version {
		return false, nil // a repeat, or of a control plane that was put back to an older state
	}
	next := &entry{kept: kept{Secret: one, Floor: s.floor(old)}}
	if why := s.refuse(old, next); why != "" {
		s.refused[one.Name] = fmt.Sprintf("version %d was not taken: %s", one.Version, why)
		s.cfg.Logger.Error("a sealed secret is refused; what was held stays in use", "secret", one.Name, "version", one.Version, "why", why)
		return true, nil
	}
	text, err := json.Marshal(next.kept)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return false, fmt.Errorf("secret %s: %w", one.Name, err)
	}
	if err := atomicfile.Write(filepath.Join(s.cfg.Dir, fileOf(one.Name)), text, 0o600); err != nil {
		return false, fmt.Errorf("secret %s: %w", one.Name, err)
	}
	s.held[one.Name] = next
	delete(s.refused, one.Name)
	s.cfg.Logger.Info("secret taken", "secret", one.Name, "version", one.Version, "dropped", len(one.Sealed) == 0, "former", len(one.Former) > 0)
	return true, nil
}

// refuse says why a secret is not to take the place of what is held; "" when it is.
func (s *Store) refuse(old, next *entry) string {
	switch {
	case old == nil && len(s.held) >= MaxSecrets && !s.forgetDropped():
		return fmt.Sprintf("this agent holds %d secrets, which is the limit", MaxSecrets)
	case len(next.Sealed) == 0:
		return ""
	}
	now := s.open(next)
	if now.err != nil {
		return now.err.Error()
	}
	if now.Version < next.Floor {
		return fmt.Sprintf("it was sealed as version %d, and version %d is held, or was", now.Version, next.Floor)
	}
	return ""
}

// floor is the highest version of a secret that was opened here.
func (s *Store) floor(e *entry) uint64 {
	if e == nil {
		return 0
	}
	floor := e.Floor
	if len(e.Sealed) > 0 {
		if o := s.open(e); o.err == nil {
			floor = max(floor, o.Version)
		}
	}
	return floor
}

// forgetDropped makes room by what tells of a dropped secret.
func (s *Store) forgetDropped() bool {
	for name, e := range s.held {
		if len(e.Sealed) == 0 && os.Remove(filepath.Join(s.cfg.Dir, fileOf(name))) == nil {
			delete(s.held, name)
			return true
		}
	}
	return false
}

// open opens the newest value of an entry once; s.mu is held.
func (s *Store) open(e *entry) *opened {
	if e.current == nil {
		e.current = s.unseal(e.Name, e.Sealed)
	}
	return e.current
}

func (s *Store) unseal(name string, text []byte) *opened {
	if s.cfg.Key == "" {
		return &opened{err: fmt.Errorf("%w: %w", sealing.ErrSealed, s.cfg.Fault)}
	}
	o := &opened{}
	o.Secret, o.err = sealing.Open(s.cfg.Key, sealing.Binding{Cluster: s.cfg.Cluster, Agent: s.cfg.Agent, Name: name}, text)
	return o
}

// Value gives the newest value of a secret, and the hosts that it may be sent to; none: any.
func (s *Store) Value(name string) (value []byte, only []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.held[name]
	if e == nil || len(e.Sealed) == 0 {
		return nil, nil, fmt.Errorf("%w: nobody has set it for this site, or it was dropped: crossdock secret set %s", ErrNotFound, name)
	}
	o := s.open(e)
	return slices.Clone(o.Value), slices.Clone(o.Only), o.err
}

// Former gives the value before the newest while it is valid beside it, and until when;
// zero: until it is dropped. It has its own hosts.
func (s *Store) Former(name string) (value []byte, only []string, until time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.held[name]
	if e == nil || len(e.Former) == 0 || !e.FormerUntil.IsZero() && !s.cfg.Now().Before(e.FormerUntil) {
		return nil, nil, time.Time{}, false
	}
	if e.former == nil {
		e.former = s.unseal(name, e.Former)
	}
	return slices.Clone(e.former.Value), slices.Clone(e.former.Only), e.FormerUntil, e.former.err == nil
}

// Status lists the secrets by name; a dropped one keeps its version.
func (s *Store) Status() (list []Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, e := range s.held {
		one := Status{Name: name, Version: e.Version, Refused: s.refused[name]}
		if len(e.Sealed) > 0 {
			o := s.open(e)
			if one.Only = slices.Clone(o.Only); o.err != nil && one.Refused == "" {
				one.Refused = o.err.Error()
			}
		}
		one.Dropped = len(e.Sealed) == 0
		list = append(list, one)
	}
	for name, why := range s.refused {
		if s.held[name] == nil {
			list = append(list, Status{Name: name, Refused: why})
		}
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
