package gateway

import (
	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
)

// maxSecretMarks bounds what an agent says of the secrets that it holds.
const maxSecretMarks = 1000

func (g *Gateway) secretMarks(marks []*syncpb.SecretMark) (map[string]uint64, error) {
	if len(marks) > maxSecretMarks {
		return nil, g.refuse("size", connect.CodeInvalidArgument, "pull with %d secrets; the limit is %d", len(marks), maxSecretMarks)
	}
	held := map[string]uint64{}
	for _, m := range marks {
		held[m.GetName()] = m.GetVersion()
	}
	return held, nil
}

// sealed sends the secrets of the stream's agent, and of no other, that are newer than what
// the agent holds. An agent that holds newer ones keeps them: this control plane was put back
// to an older state.
func (p *puller) sealed() error {
	if err := p.standing(); err != nil {
		return err
	}
	for _, s := range p.g.cfg.Store.SecretsOf(p.s.agent) {
		if s.Version <= p.secrets[s.Name] {
			continue
		}
		out := &syncpb.SealedSecret{Name: s.Name, Version: s.Version, Sealed: s.Sealed, Former: s.Former}
		if !s.FormerUntil.IsZero() {
			out.FormerUntilUnixMs = s.FormerUntil.UnixMilli()
		}
		if err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Secret{Secret: out}}); err != nil {
			return err
		}
		p.secrets[s.Name] = s.Version
	}
	return nil
}
