package pluginhost

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// maxHeaders is the size of what comes beside an answer.
const maxHeaders = 64 << 10

// Calls that are not of a contract.
const (
	ofGoPlugin = "/plugin."
	ofBroker   = "/plugin.GRPCBroker/"
	ofHealth   = "/grpc.health.v1.Health/"
)

func (l *life) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(sdk.MaxMessageSize), grpc.MaxCallSendMsgSize(sdk.MaxMessageSize)),
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
	case strings.HasPrefix(method, ofHealth): // has a limit
		return invoke(ctx, method, request, reply, conn, opts...)
	case strings.HasPrefix(method, ofGoPlugin):
		ctx, cancel := context.WithTimeout(ctx, l.cfg.HealthTimeout)
		defer cancel()
		return invoke(ctx, method, request, reply, conn, opts...)
	}
	if !l.enter() {
		return status.Errorf(codes.Unavailable, "plugin %s is being stopped", l.spec.Name)
	}
	defer l.leave()
	ctx, cancel := context.WithTimeout(ctx, l.callTimeout())
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
	return open(ctx, desc, conn, method, opts...)
}

func (l *life) callTimeout() time.Duration {
	if l.spec.CallTimeout > 0 {
		return l.spec.CallTimeout
	}
	return l.cfg.CallTimeout
}

func (l *life) know(conn *grpc.ClientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
}

// enter counts a call in, unless there are to be no more.
func (l *life) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.inFlight++
	return true
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
