package uplink

import (
	"context"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// renew replaces the certificate when two thirds of its life are over. A renewal that
// fails ends nothing: events pass as long as the certificate is good, and a last third of
// its life is left to try again in.
func (u *Uplink) renew(ctx context.Context, client syncpbconnect.SyncClient) error {
	pause := time.Duration(0)
	for {
		left := time.Until(u.cfg.Identity.RenewAt())
		timer := time.NewTimer(max(min(left, renewLook), pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = 0
		if time.Now().Before(u.cfg.Identity.RenewAt()) {
			continue
		}
		pause = renewPause // a clock that is ahead asks for the next renewal at once
		if err := u.renewOnce(ctx, client); err != nil {
			u.log.Warn("the certificate could not be renewed; trying again", "pause", pause, "err", err)
			continue
		}
		u.log.Info("certificate renewed", "next", u.cfg.Identity.RenewAt())
	}
}

func (u *Uplink) renewOnce(ctx context.Context, client syncpbconnect.SyncClient) error {
	answer, err := u.callRenew(ctx, client)
	if err != nil {
		return err
	}
	return u.cfg.Identity.Replace(answer.Certificates, answer.Authorities, answer.Recoveries)
}

func (u *Uplink) callRenew(ctx context.Context, client syncpbconnect.SyncClient) (*syncpb.RenewResponse, error) {
	request, err := u.cfg.Identity.Request()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, u.cfg.CallTimeout)
	defer cancel()
	answer, err := client.Renew(ctx, connect.NewRequest(&syncpb.RenewRequest{
		CertificateRequest: request, Recoveries: u.cfg.Identity.Recoveries()}))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

// recover renews a certificate that has expired, which opens no session: the agent was cut
// off for longer than its certificate lived. The call may run on two paths at once; it is
// the same request, and is counted once.
func (u *Uplink) recover(ctx context.Context) error {
	if time.Now().Before(u.refused) {
		return u.refusal
	}
	if _, err := u.cfg.Identity.Request(); err != nil { // on disk before two paths ask for it
		return err
	}
	var mu sync.Mutex // guards answer
	var answer *syncpb.RenewResponse
	session, err := u.cfg.Dialer.Session(ctx, func(ctx context.Context, client syncpbconnect.SyncClient) error {
		renewed, err := u.callRenew(ctx, client)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		answer = renewed
		return nil
	})
	if err != nil {
		err = fmt.Errorf("this agent's certificate has expired, and its renewal failed: %w", err)
		switch connect.CodeOf(err) {
		case connect.CodePermissionDenied, connect.CodeFailedPrecondition, connect.CodeResourceExhausted:
			u.refused, u.refusal = time.Now().Add(u.cfg.RecoverRetry), err
		}
		return err
	}
	defer session.Close()
	mu.Lock()
	defer mu.Unlock()
	if err := u.cfg.Identity.Replace(answer.Certificates, answer.Authorities, answer.Recoveries); err != nil {
		return err
	}
	u.log.Warn("certificate renewed after it had expired", "recoveries", answer.Recoveries, "next", u.cfg.Identity.RenewAt())
	return nil
}
