// Package numbers owns what this site may give of number ranges while nobody can be asked:
// the blocks of serials that were leased to it, and which numbers were given for what.
//
// It is a package of its own below agent because its promise is of another kind than those of
// queue and delivery: what they lose can be sent again, while a number that is given twice is
// on two parcels. So it has a file of its own, in which every number is taken for good before
// anybody sees it.
//
// It refuses to know who leases and how, and what the numbers are printed on. Its invariant:
// no serial is given for two references, through kill -9, damage to the file and copies of it,
// as long as the blocks it is handed were never handed to anybody else.
package numbers

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/serial"
)

// Limits.
const (
	MaxCount     = 1000 // numbers for one reference
	MaxReference = 200  // bytes

	maxMarks       = 500
	keepReferences = 200_000          // the oldest is forgotten first, and would get other numbers
	copyAge        = 15 * time.Minute // a file left alone for longer may be one that was put back: a restart is over sooner
	aliveEvery     = time.Minute
	graceLow       = 10 * time.Second // of Config.Grace
	lockTimeout    = 2 * time.Second
)

// Why no numbers are given.
var (
	ErrRange     = errors.New("no such number range for this site")
	ErrUsedUp    = errors.New("not enough numbers are left")
	ErrReference = errors.New("the reference was given another count of numbers before")
	ErrRequest   = errors.New("numbers are taken with a reference and a count")
	ErrFenced    = errors.New("another copy of this agent was let in, and gives these numbers")
	ErrCopy      = errors.New("this data was left alone for a while and may be a copy that was put back: its numbers are not given any more, and others when the control plane has been reached; if nothing was put back, run: crossdock-agent numbers vouch")
	ErrDisk      = errors.New("what was taken last may not be on disk: the agent has to start again")
	ErrNoDoubt   = errors.New("nobody has to vouch for the numbers that are held here")
)

// Config of a Store. Path, Site and Policy are required.
type Config struct {
	Path   string
	Site   string
	Epoch  uint64
	Policy func() *policy.Set // in force; nil before the first

	Connected func() bool                   // there is a session with the control plane
	Alarm     func(kind, what, text string) // tells people; it must not block
	Check     func(path string) error       // says whether a file can be opened
	Now       func() time.Time
	Logger    *slog.Logger
	Grace     time.Duration // that few are left and no more come, before it is told; 0: 10 s
}

// Number is one number, ready to be printed.
type Number struct {
	Serial uint64 `json:"serial"`
	Text   string `json:"text"`
}

// Request asks for a block.
type Request struct {
	Range   string
	ID      [16]byte // the same until it is answered
	Have    uint64
	Want    uint64
	Highest uint64
}

// Mark is what is said of a range to who leases it.
type Mark struct {
	Range   string
	Highest uint64 // serial that is or was held
	Used    uint64 // numbers given
	Form    serial.Form
}

// Holding is what is left of a range.
type Holding struct {
	Range   string
	Left    uint64 // that can be given now
	Low     uint64
	Used    uint64
	Highest uint64
	Refused string // why no more were leased when last asked for, or none is given
}

// Store holds the leases. Its methods are for any goroutine.
type Store struct {
	cfg Config
	log *slog.Logger
	db  *bolt.DB

	changed chan struct{} // has a token when something may have to be asked for
	look    chan struct{} // has a token when something may have to be told
	ended   chan struct{} // closed when broken is set

	line line // of those that want numbers

	mu      sync.Mutex // guards what follows, and serialises what writes
	state   stateRecord
	held    map[string]rangeRecord
	refused map[string]string
	doubt   bool                 // the file may be a copy; until the control plane has said
	lost    bool                 // a file was set aside: what it counted is not known
	broken  error                // a commit failed, and nobody knows what is on disk
	short   map[string]uint64    // most that was asked for and was not there, by range
	since   map[string]time.Time // few are left and no more come
	told    map[string]bool      // alarms raised by this process
}

// Open opens the file, or begins it. What was leased in an earlier epoch is dropped: another
// copy of this agent may have given it.
func Open(cfg Config) (*Store, error) {
	if cfg.Path == "" || cfg.Site == "" || cfg.Policy == nil {
		return nil, errors.New("numbers: path, site and policy are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Grace == 0 {
		cfg.Grace = graceLow
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Connected == nil {
		cfg.Connected = func() bool { return false }
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(string, string, string) {}
	}
	s := &Store{cfg: cfg, log: cfg.Logger.With("part", "numbers"), changed: make(chan struct{}, 1), look: make(chan struct{}, 1), ended: make(chan struct{}),
		held: map[string]rangeRecord{}, refused: map[string]string{}, short: map[string]uint64{}, since: map[string]time.Time{}, told: map[string]bool{}}
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// begin looks at what the file says of itself.
func (s *Store) begin() error {
	switch {
	case s.state.Epoch == 0:
		s.state.Epoch, s.state.Alive = s.cfg.Epoch, s.cfg.Now().Unix()
		return s.save()
	case s.state.Epoch != s.cfg.Epoch:
		s.state.Alive = s.cfg.Now().Unix()
		return s.drop(s.cfg.Epoch, "this agent is in another epoch than when it leased them")
	case !s.concerned():
		s.state.Alive = s.cfg.Now().Unix()
	}
	s.examine()
	return nil
}

// examine doubts the file if it was left alone. It is asked at each use, not at the start only:
// an image of a machine may hold the memory of this process. A clock that is far behind tells
// nothing of how old the file is. The caller holds the lock.
func (s *Store) examine() {
	age := s.cfg.Now().Sub(time.Unix(s.state.Alive, 0))
	if s.doubt || !s.concerned() || age.Abs() <= copyAge {
		return
	}
	s.doubt = true
	s.log.Warn("these leases of numbers were left alone for a while: none is given before the control plane has been reached", "age", age.Round(time.Second), "left", s.leftInAll())
	nudge(s.changed)
	nudge(s.look)
}

// concerned says whether this site ever had to do with number ranges.
func (s *Store) concerned() bool {
	set := s.cfg.Policy()
	return len(s.held) > 0 || set != nil && len(set.RangesAt(s.cfg.Site)) > 0
}

// Close closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db.Close()
}

// rangeOf finds a range that this site may take from now.
func (s *Store) rangeOf(name string) *policy.NumberRange {
	set := s.cfg.Policy()
	if set == nil {
		return nil
	}
	r := set.Ranges[name]
	if r == nil || !slices.Contains(r.Sites, s.cfg.Site) {
		return nil
	}
	return r
}

// few says whether more of a range is to be leased. The caller holds the lock.
func (s *Store) few(name string) bool {
	r := s.rangeOf(name)
	return r != nil && s.held[name].left() < max(r.Low, s.short[name])
}

// barred says why nothing that is held may be given. The caller holds the lock.
func (s *Store) barred() error {
	s.examine()
	switch {
	case s.broken != nil:
		return s.broken
	case s.state.Fenced:
		return ErrFenced
	case s.doubt:
		return ErrCopy
	}
	return nil
}

func nudge(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Holdings lists what is left of each range that this site may take from, by name.
func (s *Store) Holdings() (out []Holding) {
	set := s.cfg.Policy()
	if set == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range set.RangesAt(s.cfg.Site) {
		record := s.held[r.Name]
		h := Holding{Range: r.Name, Left: record.left(), Low: r.Low, Used: record.Used, Highest: record.Highest, Refused: s.refused[r.Name]}
		if err := s.barred(); err != nil {
			h.Left, h.Refused = 0, err.Error()
		}
		out = append(out, h)
	}
	return out
}

func (s *Store) leftInAll() (left uint64) {
	for _, record := range s.held {
		left += record.left()
	}
	return left
}
