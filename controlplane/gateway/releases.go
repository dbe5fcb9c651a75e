package gateway

import (
	"context"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
)

// FetchRelease refuses: no release is wanted anywhere while nobody can add one.
func (g *Gateway) FetchRelease(ctx context.Context, r *connect.Request[syncpb.FetchReleaseRequest]) (*connect.Response[syncpb.FetchReleaseResponse], error) {
	if _, err := g.caller(ctx); err != nil {
		return nil, err
	}
	return nil, g.refuse("unknown_file", connect.CodeNotFound, "no release has a file with the SHA-256 %s", clip(r.Msg.GetSha256()))
}
