package agent

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/numbers"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/uplink"
)

// numbersFile holds the leases of number ranges, in the data directory.
const numbersFile = "numbers.db"

// NumbersStatus is what is left of a number range here.
type NumbersStatus struct {
	Range   string `json:"range"`
	Left    uint64 `json:"left"`
	Low     uint64 `json:"low"` // fewer left than this are too few
	Used    uint64 `json:"used"`
	Highest uint64 `json:"highest"` // serial that this agent holds or held
	Refused string `json:"refused,omitempty"`
}

func (a *Agent) openNumbers() (err error) {
	a.numbers, err = numbers.Open(numbers.Config{
		Path: filepath.Join(a.cfg.Data, numbersFile), Site: a.identity.Site, Epoch: a.identity.Epoch(), Policy: a.revision.Set,
		Connected: func() bool { return a.uplink.State().Connected }, Alarm: a.alarms.raise, Check: queue.CheckPages, Now: time.Now, Logger: a.log, Grace: a.cfg.Tuning.NumbersGrace,
	})
	return err
}

func (a *Agent) numbersStatus() (out []NumbersStatus) {
	for _, h := range a.numbers.Holdings() {
		out = append(out, NumbersStatus(h))
	}
	return out
}

// vouch is a person's word that this data is no copy.
func (a *Agent) vouch() error {
	err := a.numbers.Vouch()
	if errors.Is(err, numbers.ErrNoDoubt) {
		return fmt.Errorf("%w: %w", ops.ErrConflict, err)
	}
	return err
}

// leases lets the uplink fill up what is held.
type leases struct{ *numbers.Store }

var _ uplink.Numbers = leases{}

func (l leases) Marks() (out []uplink.NumberMark, ok bool) {
	marks, ok := l.Store.Marks()
	for _, m := range marks {
		out = append(out, uplink.NumberMark(m))
	}
	return out, ok
}

func (l leases) Wanted() (out []uplink.NumberRequest, err error) {
	wanted, err := l.Store.Wanted()
	if errors.Is(err, numbers.ErrCopy) {
		err = fmt.Errorf("%w: %w", uplink.ErrNumbersUnsure, err)
	}
	for _, w := range wanted {
		out = append(out, uplink.NumberRequest(w))
	}
	return out, err
}

// printer gives numbers to systems of the site.
type printer struct{ store *numbers.Store }

var _ intake.Numbers = printer{}

func (p printer) Take(name, reference string, count int) ([]intake.Number, error) {
	given, err := p.store.Take(name, reference, count)
	if err != nil {
		return nil, intakeNumbersError(err)
	}
	out := make([]intake.Number, len(given))
	for i, n := range given {
		out[i] = intake.Number(n)
	}
	return out, nil
}

func intakeNumbersError(err error) error {
	for of, as := range map[error]error{numbers.ErrRange: intake.ErrNoRange, numbers.ErrReference: intake.ErrOtherNumber, numbers.ErrUsedUp: intake.ErrNoNumbers,
		numbers.ErrFenced: intake.ErrNoNumbers, numbers.ErrCopy: intake.ErrNoNumbers} {
		if errors.Is(err, of) {
			return fmt.Errorf("%w: %w", as, err)
		}
	}
	return err
}
