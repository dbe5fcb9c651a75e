package uplink

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// safe holds secrets; its disk is full for the first few.
type safe struct {
	mu   sync.Mutex
	full int
	held []string
}

func (s *safe) Marks() []SecretMark { return []SecretMark{{Name: "erp/token", Version: 4}} }

func (s *safe) Take(one Secret) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full > 0 {
		s.full--
		return errors.New("no room")
	}
	s.held = append(s.held, fmt.Sprintf("%s %d %s %s %d", one.Name, one.Version, one.Sealed, one.Former, one.FormerUntil.Unix()))
	return nil
}

func (s *safe) holds() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.held))
}

// Secrets are kept as they come; a full disk holds back neither the stream nor them for good.
func TestSecretsAreKept(t *testing.T) {
	r, s := newRelay(), &safe{full: 3}
	for _, m := range []*syncpb.SealedSecret{
		{Name: "erp/token", Version: 5, Sealed: []byte("five"), Former: []byte("four"), FormerUntilUnixMs: 9000}, {Name: "gone/token", Version: 2},
	} {
		r.mail = append(r.mail, &syncpb.PullResponse{Item: &syncpb.PullResponse_Secret{Secret: m}})
	}
	startWith(t, newSite(), r, transport.Faults{}, func(c *Config) { c.Secrets, c.FullRetry = s, time.Millisecond })
	want := []string{"erp/token 5 five four 9", fmt.Sprintf("gone/token 2   %d", time.Time{}.Unix())}
	for end := time.Now().Add(5 * time.Second); !slices.Equal(s.holds(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("got %q, want %q", s.holds(), want)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.marks != "erp/token 4" {
		t.Errorf("the relay was told that it holds %q", r.marks)
	}
}
