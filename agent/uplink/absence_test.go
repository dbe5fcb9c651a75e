package uplink

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/transport"
)

// sayings keeps what is logged.
type sayings struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *sayings) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(text)
}

func (s *sayings) has(words ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.text.String()) {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			return true
		}
	}
	return false
}

// A session that is lost and found again is no warning; one that stays away is.
func TestAbsenceIsAWarningOnceItLasts(t *testing.T) {
	s, r := newSite(), newRelay()
	said := &sayings{}
	u, link := startWith(t, s, r, transport.Faults{}, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(said, nil))
		c.Grace, c.DisconnectLog = time.Hour, time.Hour
	})
	r.await(t, "a session", func() bool { return u.State().Connected })
	link.Cut()
	r.await(t, "the loss to be told", func() bool { return said.has("level=INFO", "looking for another") })
	r.await(t, "the next session", func() bool { return u.State().Connected })
	if said.has("level=WARN") {
		t.Errorf("a moment without a session is a warning:\n%s", said.text.String())
	}

	said, s, r = &sayings{}, newSite(), newRelay()
	_, link = startWith(t, s, r, transport.Faults{}, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(said, nil))
		c.Grace = time.Millisecond
	})
	link.SetDown(true)
	r.await(t, "the warning", func() bool { return said.has("level=WARN", "goes on alone", "since=") })
}

func TestAbsence(t *testing.T) {
	said := &sayings{}
	u := &Uplink{cfg: DefaultConfig(), log: slog.New(slog.NewTextHandler(said, nil))}
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	for i, tt := range []struct {
		alone                absence
		wasConnected, lasted bool
		want                 string // what is said; "" nothing
	}{
		{absence{}, false, false, "level=INFO msg=\"no session"},
		{absence{since: ago(time.Second)}, false, false, ""},
		{absence{since: ago(time.Second)}, true, false, "level=INFO msg=\"the session"},
		{absence{since: ago(4 * time.Second)}, false, false, "level=WARN"},
		{absence{since: ago(4 * time.Second)}, true, false, "level=WARN"}, // they end at once, each time
		{absence{since: ago(time.Hour)}, true, true, "level=INFO msg=\"the session"},
		{absence{since: ago(time.Hour), warned: ago(30 * time.Second)}, false, false, ""},
		{absence{since: ago(time.Hour), warned: ago(2 * time.Minute)}, false, false, "level=WARN"},
	} {
		cause := fmt.Sprint("cause-", i)
		u.tell(&tt.alone, tt.wasConnected, tt.lasted, errors.New(cause))
		if got := said.has(cause); got != (tt.want != "") || got && !said.has(cause, tt.want) {
			t.Errorf("%d: want %q in\n%s", i, tt.want, said.text.String())
		}
	}
}
