package gateway

import (
	"context"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
)

// maxReleaseData bounds what one call gives of a file of a release.
const maxReleaseData = 1 << 20

// FetchRelease gives a piece of a file of a release, from this node's own state. It tells no
// secret: an agent may have any file that is kept, and judges it by a manifest that was signed.
func (g *Gateway) FetchRelease(ctx context.Context, r *connect.Request[syncpb.FetchReleaseRequest]) (*connect.Response[syncpb.FetchReleaseResponse], error) {
	if _, err := g.caller(ctx); err != nil {
		return nil, err
	}
	sha, offset := clip(r.Msg.GetSha256()), r.Msg.GetOffset()
	most := min(r.Msg.GetMax(), maxReleaseData)
	if most == 0 {
		return nil, g.refuse("size", connect.CodeInvalidArgument, "no bytes of file %s are asked for: at most %d come with a call", sha, maxReleaseData)
	}
	data, size, ok := g.cfg.Store.ReleaseData(sha, int64(offset), int(most)) //nolint:gosec // an offset that is none is refused there
	switch {
	case !ok:
		return nil, g.refuse("unknown_file", connect.CodeNotFound,
			"node %s has no file of a release with the SHA-256 %s: it has not heard of it yet, or the release is no longer kept", g.cfg.Node, sha)
	case offset > uint64(size): //nolint:gosec // never negative
		return nil, g.refuse("size", connect.CodeInvalidArgument, "file %s has %d bytes, there are none at %d", sha, size, offset)
	}
	g.cfg.Metrics.ReleaseBytes.Add(float64(len(data)))
	return connect.NewResponse(&syncpb.FetchReleaseResponse{Data: data, Size: uint64(size)}), nil //nolint:gosec // never negative
}

// release sends what the agent's site is to run where that is another stage than the agent
// heard of last.
func (p *puller) release() error {
	if _, stage := p.g.cfg.Store.WantedStage(p.s.site); stage == p.stage {
		return nil
	}
	wanted := p.g.cfg.Store.WantedRelease(p.s.site)
	message := &syncpb.Release{Version: wanted.Version, Manifest: wanted.Manifest, Signature: wanted.Signature, Stage: wanted.Stage, Withdrawn: wanted.Withdrawn}
	if err := p.out.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Wanted{Wanted: message}}); err != nil {
		return err
	}
	p.stage = wanted.Stage
	return nil
}
