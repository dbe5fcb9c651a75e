package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	alarmRetry = 5 * time.Second
	maxAlarms  = 1024 // that wait to be told
)

// exception is something that a person must look at, as a fact for the control plane. The
// same id again is the same exception.
type exception struct {
	ID    string    `json:"id"`
	Agent string    `json:"agent"`
	Kind  string    `json:"kind"`
	Text  string    `json:"text"`
	At    time.Time `json:"at"`
}

func (e exception) fact() (json.RawMessage, error) {
	return json.Marshal(struct {
		Exception exception `json:"exception"`
	}{e})
}

// alarms tells the control plane of exceptions that come up where nobody can wait for it:
// under the journal's own commit. What is not told before the end comes up again when the
// same place is read again.
type alarms struct {
	agent  string
	log    *slog.Logger
	report func(ctx context.Context, fact json.RawMessage) error
	wake   chan struct{}

	mu      sync.Mutex           // guards what follows
	waiting map[string]exception // by id
	dropped int                  // that never were told
}

func newAlarms(agent string, log *slog.Logger) *alarms {
	return &alarms{agent: agent, log: log, wake: make(chan struct{}, 1), waiting: map[string]exception{}}
}

// raise never blocks.
func (a *alarms) raise(kind, what, text string) {
	e := exception{ID: a.agent + "/" + kind + "/" + what, Agent: a.agent, Kind: kind, Text: text, At: time.Now()}
	a.mu.Lock()
	if _, known := a.waiting[e.ID]; !known && len(a.waiting) >= maxAlarms {
		oldest := a.oldest()
		a.log.Error("too many exceptions wait to be told; the oldest is dropped", "id", oldest, "text", a.waiting[oldest].Text)
		delete(a.waiting, oldest)
		a.dropped++
	}
	a.waiting[e.ID] = e
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// oldest is the id of what waits for longest; the lock is held.
func (a *alarms) oldest() string {
	return slices.MinFunc(slices.Collect(maps.Keys(a.waiting)), func(x, y string) int {
		return cmp.Or(a.waiting[x].At.Compare(a.waiting[y].At), cmp.Compare(x, y))
	})
}

// confess has people told of what was dropped.
func (a *alarms) confess() {
	a.mu.Lock()
	dropped := a.dropped
	a.dropped = 0
	a.mu.Unlock()
	if dropped > 0 {
		a.raise("exceptions-dropped", time.Now().UTC().Format(time.RFC3339), fmt.Sprintf(
			"%d exceptions of agent %s were never told: more than %d waited, and the oldest were dropped; they stand in its log", dropped, a.agent, maxAlarms))
	}
}

func (a *alarms) run(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if !a.tell(ctx) {
			again = time.After(alarmRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-again:
		}
	}
}

// tell reports what waits, and says whether all of it was taken. What is raised meanwhile has
// rung the bell, and is told in the next turn.
func (a *alarms) tell(ctx context.Context) bool {
	a.mu.Lock()
	waiting := maps.Clone(a.waiting)
	a.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(waiting)) {
		fact, err := waiting[id].fact()
		if err == nil {
			err = a.report(ctx, fact)
		}
		if err != nil {
			a.log.Warn("an exception could not be reported; trying again", "id", id, "err", err)
			return false
		}
		a.mu.Lock()
		if a.waiting[id] == waiting[id] { // else it was raised again meanwhile, and what it says now is to be told
			delete(a.waiting, id)
		}
		a.mu.Unlock()
	}
	a.confess()
	return true
}
