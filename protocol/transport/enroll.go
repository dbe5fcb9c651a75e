package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// ErrUnreachable marks an enrolment for which no node was found, so that the token was sent
// to nobody.
var ErrUnreachable = errors.New("no node of the control plane was reached; the token is still good")

// EnrollConfig is how an agent without an identity reaches the control plane.
type EnrollConfig struct {
	Addresses []string
	CAHash    [32]byte // of the join token
	Mode      Mode
	Proxy     func(*url.URL) (*url.URL, error)
	Logger    *slog.Logger
}

// Enroll trades a join token for an identity. The token leaves this process only on a
// connection whose authority has the pinned hash, and only once: the race is run with a
// call that is harmless, since a token works once.
func Enroll(ctx context.Context, cfg EnrollConfig, request *syncpb.EnrollRequest) (*syncpb.EnrollResponse, error) {
	d, err := NewDialer(DialerConfig{
		Addresses: cfg.Addresses, Mode: cfg.Mode, Proxy: cfg.Proxy, Logger: cfg.Logger,
		TLS: func() (*tls.Config, error) { return pinnedTLS(cfg.CAHash), nil },
	})
	if err != nil {
		return nil, err
	}
	session, err := d.Session(ctx, knock)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer session.Close()
	answer, err := session.Client.Enroll(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	for _, der := range answer.Msg.GetAuthorities() {
		if ca, err := x509.ParseCertificate(der); err == nil && HashKey(ca) == cfg.CAHash {
			return answer.Msg, nil
		}
	}
	return nil, fmt.Errorf("%w: the answer to the enrolment does not hold the authority that the join token names", ErrForeignIssuer)
}

// knock is a hello without an identity. That it is refused by the service, in so many
// words, proves that the path carries the protocol.
func knock(ctx context.Context, client syncpbconnect.SyncClient) error {
	_, err := client.Hello(ctx, connect.NewRequest(&syncpb.HelloRequest{}))
	if err == nil {
		return errors.New("the other side greets agents without a certificate: it is no control plane")
	}
	if connect.CodeOf(err) == connect.CodeUnauthenticated && connect.IsWireError(err) {
		return nil
	}
	return err
}
