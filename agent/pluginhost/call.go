package pluginhost

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/status"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Limits of what comes from a plugin, besides that of the contracts' messages.
const (
	maxHeaders = 64 << 10 // bytes beside an answer
	maxWords   = 64 << 10 // bytes of one message that is not of a contract
)

// Calls that are not of a contract.
const (
	ofGoPlugin = "/plugin."
	ofBroker   = "/plugin.GRPCBroker/"
	ofHealth   = "/grpc.health.v1.Health/"
)

func (l *life) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(sdk.MaxMessageSize), grpc.MaxCallSendMsgSize(sdk.MaxMessageSize),
			grpc.ForceCodecV2(counting{encoding.GetCodecV2(proto.Name)})),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithUnaryInterceptor(l.unary),
		grpc.WithStreamInterceptor(l.stream),
	}
}

// unary bounds every call in time, and refuses it when the plugin is about to end.
func (l *life) unary(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	l.know(conn)
	switch {
	case strings.HasPrefix(method, ofHealth), strings.HasPrefix(method, ofGoPlugin):
		ctx, cancel := context.WithTimeout(ctx, l.cfg.HealthTimeout)
		defer cancel()
		return invoke(ctx, method, request, reply, conn, append(opts, grpc.MaxCallRecvMsgSize(maxWords))...)
	}
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	ctx, cancel := l.limit(ctx)
	defer cancel()
	began := time.Now()
	err := invoke(ctx, method, request, reply, conn, opts...)
	l.plugin.called(status.Code(err), time.Since(began))
	return err
}

// stream refuses what is not asked for: through the broker a plugin could make the agent do
// any number of things.
func (l *life) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer,
	opts ...grpc.CallOption) (grpc.ClientStream, error) {
	l.know(conn)
	if strings.HasPrefix(method, ofBroker) {
		return nil, status.Error(codes.Unimplemented, "plugins have no broker")
	}
	return open(ctx, desc, conn, method, append(opts, grpc.MaxCallRecvMsgSize(maxWords))...)
}

// limit bounds a call in time. While the plugin starts the limit is that of the start: it may
// have years of its book to read.
func (l *life) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.serving:
		return context.WithCancel(ctx)
	case l.spec.CallTimeout > 0:
		return context.WithTimeout(ctx, l.spec.CallTimeout)
	}
	return context.WithTimeout(ctx, l.cfg.CallTimeout)
}

func (l *life) know(conn *grpc.ClientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
}

// enter counts a call in, unless there are to be no more, or no more at once: each may cost
// the agent what the largest answer does.
func (l *life) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.over:
		return status.Errorf(codes.Unavailable, "plugin %s is being stopped", l.spec.Name)
	case l.inFlight >= l.cfg.MaxCalls:
		return status.Errorf(codes.Unavailable, "plugin %s has %d calls in flight, and no more are made at once", l.spec.Name, l.inFlight)
	}
	l.inFlight++
	return nil
}

func (l *life) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	if l.over && l.inFlight == 0 {
		close(l.idle)
	}
}

// close lets no more calls in.
func (l *life) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	if l.inFlight == 0 {
		close(l.idle)
	}
}
