package uplink

import (
	"context"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Enrolled is what the control plane gives for a join token.
type Enrolled struct {
	Cluster      string
	Agent        string
	Site         string
	Epoch        uint64
	Certificates [][]byte // DER, leaf first
	Authorities  [][]byte // DER
}

// Enroll trades a join token and a certificate request for an identity. With a name it is
// that agent's or none: a token for another is refused, and stays good.
func Enroll(ctx context.Context, cfg transport.EnrollConfig, token, agent, version string, request []byte) (Enrolled, error) {
	answer, err := transport.Enroll(ctx, cfg, &syncpb.EnrollRequest{Token: token, Agent: agent, CertificateRequest: request, Version: version})
	if err != nil {
		return Enrolled{}, err
	}
	return Enrolled{Cluster: answer.Cluster, Agent: answer.Agent, Site: answer.Site, Epoch: answer.Epoch,
		Certificates: answer.Certificates, Authorities: answer.Authorities}, nil
}

// Probed is what the doctor learns of a way to the control plane.
type Probed struct {
	Took  time.Duration
	Skew  time.Duration // the control plane's clock less ours
	Epoch uint64        // granted to this agent

	Protocol uint32 // that is spoken
}

// Probe opens a session, says hello and leaves: what the doctor asks of the line.
func Probe(ctx context.Context, dialer Dialer, epoch uint64, version string) (Probed, error) {
	begun := time.Now()
	var mu sync.Mutex // the dialer may try two hellos at a time
	var out Probed
	session, err := dialer.Session(ctx, func(ctx context.Context, client syncpbconnect.SyncClient) error {
		asked := time.Now()
		answer, err := client.Hello(ctx, connect.NewRequest(&syncpb.HelloRequest{
			Protocol: ProtocolVersion, Version: version, Epoch: epoch, NowUnixMs: asked.UnixMilli()}))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		out.Skew = time.UnixMilli(answer.Msg.NowUnixMs).Sub(asked.Add(time.Since(asked) / 2))
		out.Epoch, out.Protocol = answer.Msg.Epoch, answer.Msg.Protocol
		return nil
	})
	if err != nil {
		return Probed{}, err
	}
	defer session.Close()
	mu.Lock()
	defer mu.Unlock()
	out.Took = time.Since(begun)
	return out, nil
}
