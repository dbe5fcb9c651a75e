// Package transport carries the sync protocol between agents and the control plane: over
// HTTP/3 on QUIC and HTTP/2 on TLS 1.3 under one port number with the same certificates,
// and in memory for tests.
//
// It owns connections, who is at the other end of them, and the choice between QUIC and
// TCP. It refuses to know what the calls mean. Its invariant: an identity that a handler
// reads from its context was proven on that very connection by a certificate of the
// cluster's authority that is not revoked; nothing is resumed from an earlier connection.
package transport

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"
)

// Limits of a connection and of what travels on it.
const (
	MaxMessage       = 4 << 20  // bytes of one message, both ways
	maxStranger      = 64 << 10 // bytes of a request without a certificate
	maxHeader        = 32 << 10
	maxStreams       = 16 // calls at once on one connection
	maxUniStreams    = 8  // HTTP/3 itself needs three
	streamWindow     = 512 << 10
	connectionWindow = 768 << 10

	// A node that is gone is left after at most the two together.
	idleTimeout       = 8 * time.Second
	keepAlive         = 3 * time.Second
	handshakeIdle     = 15 * time.Second // links of 2 s are slow, not dead
	raceHandshakeIdle = 3 * time.Second
	headerTimeout     = 5 * time.Second
	strangerTimeout   = 30 * time.Second // for a request without a certificate to arrive
	unusedTimeout     = 5 * time.Minute  // a connection without calls
	pingAfter         = 4 * time.Second  // likewise on TCP
	pingTimeout       = 6 * time.Second
	stopTimeout       = 5 * time.Second

	// Handshakes a second from addresses that have not shown that they can receive; more
	// than that are asked to, which costs them a round trip.
	unprovenRate  = 50
	unprovenBurst = 200
)

// Mode is how an agent reaches the control plane.
type Mode string

// The modes. Memory stands only in a Session, for tests.
const (
	Auto   Mode = "auto"
	QUIC   Mode = "quic"
	TCP    Mode = "tcp"
	Memory Mode = "memory"
)

func quicConfig(handshake time.Duration) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           handshake,
		MaxIdleTimeout:                 idleTimeout,
		KeepAlivePeriod:                keepAlive,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         streamWindow,
		InitialConnectionReceiveWindow: connectionWindow,
		MaxConnectionReceiveWindow:     connectionWindow,
		MaxIncomingStreams:             maxStreams,
		MaxIncomingUniStreams:          maxUniStreams,
		Allow0RTT:                      false,
	}
}

// HandlerOptions are the options that the service's handler is made with. Blocks and
// bundles are compressed already, so messages are not.
func HandlerOptions() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithReadMaxBytes(MaxMessage),
		connect.WithSendMaxBytes(MaxMessage),
		connect.WithCompression("gzip", nil, nil),
	}
}

// ClientOptions are the options that a client of the service is made with.
func ClientOptions() []connect.ClientOption {
	return []connect.ClientOption{
		connect.WithReadMaxBytes(MaxMessage),
		connect.WithInterceptors(connect.UnaryInterceptorFunc(limitRequest)),
		connect.WithAcceptCompression("gzip", nil, nil),
	}
}

// limitRequest refuses a request that the other side would not take. WithSendMaxBytes
// would do so too, but the library then still sends the call, with an empty message.
func limitRequest(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if m, ok := r.Any().(proto.Message); ok {
			if size := proto.Size(m); size > MaxMessage {
				return nil, connect.NewError(connect.CodeResourceExhausted,
					fmt.Errorf("%s of %d bytes, the limit is %d: send less at once", r.Spec().Procedure, size, MaxMessage))
			}
		}
		return next(ctx, r)
	}
}
