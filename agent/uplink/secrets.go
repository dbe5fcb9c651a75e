package uplink

import (
	"context"
	"time"

	"github.com/crossdock/crossdock/protocol/syncpb"
)

// Secret is one that was sealed to this agent.
type Secret struct {
	Name        string
	Version     uint64
	Sealed      []byte // empty: it was dropped
	Former      []byte
	FormerUntil time.Time // zero: until it is dropped
}

// SecretMark says which change of a secret this agent holds.
type SecretMark struct {
	Name    string
	Version uint64
}

// Secrets keeps what is sealed to this agent.
type Secrets interface {
	Marks() []SecretMark
	// Take keeps one. An error says that it could not be kept now; one that is refused for good
	// is none, and shows in the status.
	Take(s Secret) error
}

// secretMarks is what a stream begins with.
func (u *Uplink) secretMarks() (out []*syncpb.SecretMark) {
	if u.cfg.Secrets == nil {
		return nil
	}
	for _, m := range u.cfg.Secrets.Marks() {
		out = append(out, &syncpb.SecretMark{Name: m.Name, Version: m.Version})
	}
	return out
}

// secret keeps a secret, and says so. One that cannot be kept is tried again beside the
// stream: what fills the disk must not hold back what would empty it.
func (p *puller) secret(ctx context.Context, m *syncpb.SealedSecret, beside func(func() error)) {
	if p.u.cfg.Secrets == nil {
		return
	}
	s := Secret{Name: m.GetName(), Version: m.GetVersion(), Sealed: m.GetSealed(), Former: m.GetFormer()}
	if until := m.GetFormerUntilUnixMs(); until != 0 {
		s.FormerUntil = time.UnixMilli(until)
	}
	err := p.u.cfg.Secrets.Take(s)
	p.reportNow()
	if err == nil {
		return
	}
	p.u.log.Error("a secret cannot be kept; it is tried again", "secret", s.Name, "version", s.Version, "err", err)
	beside(func() error {
		for err != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(p.u.cfg.FullRetry):
			}
			err = p.u.cfg.Secrets.Take(s)
		}
		p.reportNow()
		return nil
	})
}
