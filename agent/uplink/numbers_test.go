package uplink

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/serial"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// purse is what a site holds of one range: it wants more until it has enough.
type purse struct {
	mu      sync.Mutex
	known   bool
	request byte
	have    uint64
	enough  uint64
	blocks  []string
	refused []string
	agreed  bool
	unsure  bool // until agreed
	full    bool // nothing can be noted
	changed chan struct{}
}

func newPurse(enough uint64) *purse {
	return &purse{known: true, request: 1, enough: enough, changed: make(chan struct{}, 1)}
}

func (p *purse) Marks() ([]NumberMark, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []NumberMark{{Range: "a", Highest: p.have, Used: p.have / 2, Form: serial.Form{Lead: "A", Digits: 3}}}, p.known
}

func (p *purse) Agreed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full {
		return errors.New("no room")
	}
	p.agreed, p.unsure = true, false
	return nil
}

func (p *purse) Wanted() ([]NumberRequest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unsure {
		return nil, fmt.Errorf("here: %w", ErrNumbersUnsure)
	}
	if p.have >= p.enough {
		return nil, nil
	}
	return []NumberRequest{{Range: "a", ID: [16]byte{p.request}, Have: p.have, Want: 10, Highest: p.have}}, nil
}

func (p *purse) Changed() <-chan struct{} { return p.changed }

func (p *purse) Leased(name string, request [16]byte, first, last uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if request != [16]byte{p.request} {
		return errors.New("an answer to something else")
	}
	p.blocks = append(p.blocks, fmt.Sprintf("%s %d-%d", name, first, last))
	p.have = last
	p.request++
	nudge(p.changed)
	return nil
}

func (p *purse) Refused(_, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = append(p.refused, why)
}

func (p *purse) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		p.mu.Lock()
		ok := holds()
		p.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// lessor is a relay that leases ten numbers at a time, and the same for the same request.
type lessor struct {
	*relay
	answers map[string]*syncpb.LeaseNumbersResponse
	asked   []*syncpb.LeaseNumbersRequest
	lose    int // answers that are lost on purpose
	err     error
}

func (l *lessor) LeaseNumbers(_ context.Context, r *connect.Request[syncpb.LeaseNumbersRequest]) (*connect.Response[syncpb.LeaseNumbersResponse], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, r.Msg)
	if l.err != nil {
		return nil, l.err
	}
	id := string(r.Msg.Request)
	if l.answers[id] == nil {
		first := uint64(len(l.answers))*10 + 1
		l.answers[id] = &syncpb.LeaseNumbersResponse{First: first, Last: first + 9}
	}
	if l.lose > 0 {
		l.lose--
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("lost on purpose"))
	}
	return connect.NewResponse(l.answers[id]), nil
}

func leasing(t *testing.T, p *purse, l *lessor) *Uplink {
	t.Helper()
	l.relay.lessor = l
	u, _ := startWith(t, newSite(), l.relay, transport.Faults{}, func(c *Config) { c.Numbers, c.LeaseRetry = p, time.Millisecond })
	return u
}

// Numbers are asked for until there are enough, and a lost answer costs none.
func TestNumbersAreLeasedWhileTheLineIsUp(t *testing.T) {
	p, l := newPurse(25), &lessor{relay: newRelay(), answers: map[string]*syncpb.LeaseNumbersResponse{}, lose: 2}
	leasing(t, p, l)
	p.await(t, "three blocks", func() bool { return len(p.blocks) == 3 })
	p.await(t, "this copy to be the one that counts", func() bool { return p.agreed })
	if got := fmt.Sprint(p.blocks); got != "[a 1-10 a 11-20 a 21-30]" {
		t.Errorf("got %s", got)
	}
	l.set(func() {
		if len(l.answers) != 3 || l.asked[0].Epoch != 1 || l.asked[0].Want != 10 || l.heard.GetNumbers().GetMarks()[0].GetRange() != "a" ||
			l.heard.GetNumbers().GetMarks()[0].Used == nil || l.heard.GetNumbers().GetMarks()[0].GetForm().GetDigits() != 3 {
			t.Errorf("%d answers, asked %v, hello %v", len(l.answers), l.asked, l.heard)
		}
	})
	p.mu.Lock()
	p.have, p.request = 20, 9 // some are used
	nudge(p.changed)
	p.mu.Unlock()
	p.await(t, "a fourth block", func() bool { return len(p.blocks) == 4 })
}

// A refusal ends nothing, and is said; a node without the call is such a refusal.
func TestRefusedNumbersEndNothing(t *testing.T) {
	p, l := newPurse(5), &lessor{relay: newRelay(), answers: map[string]*syncpb.LeaseNumbersResponse{}, err: connect.NewError(connect.CodeResourceExhausted, errors.New("used up"))}
	p.known = false
	u := leasing(t, p, l)
	p.await(t, "the refusal", func() bool { return len(p.refused) > 2 && p.refused[0] == "used up" })
	l.set(func() {
		l.err = connect.NewError(connect.CodeUnimplemented, errors.New("what?"))
		if l.hellos != 1 || l.heard.GetNumbers() != nil || !u.State().Connected {
			t.Errorf("%d hellos, %v", l.hellos, l.heard)
		}
	})
	p.await(t, "the other refusal", func() bool {
		return p.refused[len(p.refused)-1] == "the control plane's node is of a version without number ranges"
	})
	l.set(func() { l.err = nil })
	p.await(t, "a block", func() bool { return len(p.blocks) == 1 })
	l.set(func() { l.err = connect.NewError(connect.CodePermissionDenied, errors.New("fenced")) })
	p.mu.Lock()
	p.have = 0
	nudge(p.changed)
	p.mu.Unlock()
	l.await(t, "another session", func() bool { return l.hellos > 1 })
}

// Who no longer knows whether its leases are a copy finds out by another session. One that
// cannot note what it has found out does not try for ever: the session carries events, too.
func TestUnsureNumbersOpenAnotherSession(t *testing.T) {
	p, l := newPurse(5), &lessor{relay: newRelay(), answers: map[string]*syncpb.LeaseNumbersResponse{}}
	leasing(t, p, l)
	p.await(t, "a block", func() bool { return len(p.blocks) == 1 })
	p.mu.Lock()
	p.unsure, p.have = true, 0
	nudge(p.changed)
	p.mu.Unlock()
	p.await(t, "another block", func() bool { return len(p.blocks) == 2 && !p.unsure })

	full := newPurse(5)
	full.unsure, full.full = true, true
	l = &lessor{relay: newRelay(), answers: map[string]*syncpb.LeaseNumbersResponse{}}
	u := leasing(t, full, l)
	l.await(t, "a session", func() bool { return l.hellos == 1 && u.State().Connected })
	for range 100 {
		full.mu.Lock()
		nudge(full.changed)
		full.mu.Unlock()
		l.await(t, "the same session", func() bool { return u.State().Connected && len(full.changed) == 0 })
	}
	l.set(func() {
		if l.hellos != 1 {
			t.Errorf("%d sessions", l.hellos)
		}
	})
}
