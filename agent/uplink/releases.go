package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// Bounds of one piece of a release. A piece aims at a time, not at a size: events share the
// line with it.
const (
	minPiece   = 16 << 10
	firstPiece = 64 << 10
	maxPiece   = 1 << 20
	pieceTime  = 2 * time.Second
)

// ReleaseOffer is a release that the control plane wants to run here; one without a version:
// none, and those that were withdrawn no longer.
type ReleaseOffer struct {
	Version, Stage      string
	Manifest, Signature []byte
	Withdrawn           []string
}

// ReleasePiece is what is to be fetched next of a file.
type ReleasePiece struct {
	SHA256 string
	Offset int64
	Left   int64
}

// Releases takes other versions of this program.
type Releases interface {
	// Want is told what is wanted. It judges that by itself.
	Want(o ReleaseOffer)
	// Next is what is to be fetched; Changed has a token when that may have changed.
	Next() (p ReleasePiece, ok bool)
	Changed() <-chan struct{}
	// Took keeps a piece of a file that has a size at the control plane.
	Took(p ReleasePiece, data []byte, size int64) error
	// Missed says why a piece did not come.
	Missed(why string)
}

func (u *Uplink) want(r *syncpb.Release) {
	if u.cfg.Releases == nil {
		return
	}
	u.cfg.Releases.Want(ReleaseOffer{Version: r.Version, Stage: r.Stage, Manifest: r.Manifest, Signature: r.Signature, Withdrawn: r.Withdrawn})
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stage = r.Stage
}

// heardStage is the stage of what this process was told last; it is not told again.
func (u *Uplink) heardStage() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stage
}

// fetch gets what is wanted, one piece at a time. After each it rests for as long as the piece
// took, so that events have at least half of the line. That nothing comes ends nothing.
func (u *Uplink) fetch(ctx context.Context, client syncpbconnect.SyncClient, g *greeting) error {
	if u.cfg.Releases == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	size := int64(firstPiece)
	for {
		rest := u.cfg.LeaseRetry
		if p, ok := u.cfg.Releases.Next(); ok {
			began := time.Now()
			err := u.fetchPiece(ctx, client, g, p, min(size, p.Left))
			took := time.Since(began)
			switch code := connect.CodeOf(err); {
			case ctx.Err() != nil:
				return ctx.Err()
			case err == nil:
				rest = took
			case code == connect.CodePermissionDenied, code == connect.CodeAborted:
				return fmt.Errorf("fetch a release: %w", err) // this session, or this copy of the agent, counts no more
			default:
				u.cfg.Releases.Missed(whyNoPiece(err))
			}
			size = nextPiece(size, took, err)
		}
		timer := time.NewTimer(rest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-u.cfg.Releases.Changed():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// nextPiece is how much to ask for after a piece that took a time.
func nextPiece(size int64, took time.Duration, err error) int64 {
	switch {
	case err != nil || took > 2*pieceTime:
		return max(size/2, minPiece)
	case took < pieceTime/2:
		return min(size*2, maxPiece)
	}
	return size
}

func (u *Uplink) fetchPiece(ctx context.Context, client syncpbconnect.SyncClient, g *greeting, p ReleasePiece, most int64) error {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.CallTimeout)
	defer cancel()
	answer, err := client.FetchRelease(ctx, marked(g, &syncpb.FetchReleaseRequest{Sha256: p.SHA256, Offset: uint64(p.Offset), Max: uint32(most)}))
	if err != nil {
		return err
	}
	return u.cfg.Releases.Took(p, answer.Msg.Data, int64(answer.Msg.Size)) //nolint:gosec // a size that is none is not that of the manifest
}

func whyNoPiece(err error) string {
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return "the control plane's node is of a version without releases"
	}
	if coded := new(connect.Error); errors.As(err, &coded) {
		return coded.Message()
	}
	return err.Error()
}
