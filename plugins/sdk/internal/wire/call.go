package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdkpb"
)

// Types of the calls that are the same in every contract.
type (
	// Nothing is asked or answered.
	Nothing struct{}
	// Configuration is what Configure takes.
	Configuration struct{ Settings map[string]string }
	// ByReference is what GetByReference takes.
	ByReference struct{ Reference string }
)

// Reply is what a plugin answers: an error, or what is in the field "result".
type Reply interface {
	proto.Message
	GetError() *sdkpb.Error
}

// Buys says whether a call costs money or leaves a mark: whether it may be done twice.
type Buys bool

// Call asks a plugin for something. What ends without an answer may have been done, and of a
// call that buys this has to be said, unless it is sure that nothing was sent.
func Call[Out any, Req proto.Message, Rep Reply](ctx context.Context, conn grpc.ClientConnInterface, buys Buys,
	method func(context.Context, Req, ...grpc.CallOption) (Rep, error), request Req, in any) (*Out, error) {
	if err := ctx.Err(); err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "nothing was sent: %v", err)
	}
	if err := Encode(request, in); err != nil {
		return nil, refused(err)
	}
	if size := proto.Size(request); size > sdk.MaxMessageSize {
		return nil, sdk.Errorf(sdk.Validation, "the request has %d bytes, at most %d are carried", size, sdk.MaxMessageSize).At(largest(request))
	}
	var to peer.Peer
	reply, err := method(ctx, request, grpc.Peer(&to), grpc.MaxCallRecvMsgSize(sdk.MaxMessageSize), grpc.MaxCallSendMsgSize(sdk.MaxMessageSize))
	if err != nil {
		// A connection of gRPC says whom it wrote to, others may not.
		_, says := conn.(*grpc.ClientConn)
		return nil, unanswered(err, buys, !says || to.Addr != nil)
	}
	result := resultOf(reply)
	if e := reply.GetError(); e != nil {
		if result != nil && reply.ProtoReflect().Has(result) {
			return nil, unreadable(buys, errors.New("it has both an error and a result"))
		}
		out := new(sdk.Error)
		if err := Decode(out, e); err != nil {
			return nil, unreadable(buys, within("error", err))
		}
		if !sdk.Class(e.GetClass()).Known() {
			out.Class = unsaid(buys)
		}
		return nil, out
	}
	out := new(Out)
	switch {
	case result == nil:
		return out, nil
	case !reply.ProtoReflect().Has(result):
		return nil, unreadable(buys, errors.New("it has neither an error nor a result"))
	}
	if err := Decode(out, reply.ProtoReflect().Get(result).Message().Interface()); err != nil {
		return nil, unreadable(buys, within("result", err))
	}
	return out, nil
}

// resultOf is the field of a reply that holds its result, nil of one that only says that it
// went well.
func resultOf(reply proto.Message) protoreflect.FieldDescriptor {
	return reply.ProtoReflect().Descriptor().Fields().ByName("result")
}

// largest is the field that takes most of a message.
func largest(m proto.Message) string {
	name, most := "", 0
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		one := m.ProtoReflect().New()
		one.Set(f, v)
		if size := proto.Size(one.Interface()); size > most {
			name, most = f.JSONName(), size
		}
		return true
	})
	return name
}

// refused says that a request cannot be carried.
func refused(err error) *sdk.Error {
	var f *fault
	if errors.As(err, &f) {
		return sdk.Errorf(sdk.Validation, "%v", f.err).At(f.path)
	}
	return sdk.Errorf(sdk.Validation, "%v", err)
}

// unsaid is the class of a failure that does not say what was done.
func unsaid(buys Buys) sdk.Class {
	if buys {
		return sdk.UnknownOutcome
	}
	return sdk.Internal
}

// unreadable is an answer that came and cannot be understood: what it tells of was done.
func unreadable(buys Buys, err error) *sdk.Error {
	return ofPlugin(unsaid(buys), "the plugin's answer cannot be read: %v", err)
}

// ofPlugin makes an error for which the plugin is at fault.
func ofPlugin(class sdk.Class, format string, args ...any) *sdk.Error {
	e := sdk.Errorf(class, format, args...)
	e.Fault = sdk.FaultPlugin
	return e.Bounded()
}

// unanswered says what it means that gRPC gave a status in place of an answer.
func unanswered(err error, buys Buys, sent bool) *sdk.Error {
	s := status.Convert(err)
	switch code := s.Code(); {
	case bool(buys) && sent: // even Unimplemented may be a provider's word that was passed on
		return ofPlugin(sdk.UnknownOutcome, "no answer came: %s: %s", code, s.Message())
	case code == codes.Unimplemented:
		return ofPlugin(sdk.NotSupported, "the plugin does not know this call")
	case !sent, code == codes.Unavailable, code == codes.DeadlineExceeded, code == codes.Canceled:
		return ofPlugin(sdk.Unavailable, "the plugin did not answer: %s: %s", code, s.Message())
	default:
		return ofPlugin(sdk.Internal, "the plugin failed: %s: %s", code, s.Message())
	}
}

// Answer does what a request asks for and fills the reply. It never fails: whatever goes wrong
// is said in the reply.
func Answer[In, Out any, Rep Reply](ctx context.Context, log *slog.Logger, buys Buys,
	do func(context.Context, *In) (*Out, error), request proto.Message, reply Rep) (Rep, error) {
	err := answer(ctx, log, buys, do, request, reply)
	if err != nil {
		m := reply.ProtoReflect()
		proto.Reset(reply)
		f := m.Descriptor().Fields().ByName("error")
		if err := Encode(m.Mutable(f).Message().Interface(), err); err != nil {
			return reply, status.Error(codes.Internal, err.Error())
		}
	}
	return reply, nil
}

func answer[In, Out any](ctx context.Context, log *slog.Logger, buys Buys, do func(context.Context, *In) (*Out, error),
	request, reply proto.Message) *sdk.Error {
	in := new(In)
	if err := Decode(in, request); err != nil {
		return refused(err)
	}
	out, err := guarded(ctx, log, buys, do, in)
	var coded *sdk.Error
	switch {
	case errors.As(err, &coded) && coded != nil && coded.Class.Known():
		return coded
	case err != nil && bool(buys): // nobody thought about what was done until then
		return ofPlugin(sdk.UnknownOutcome, "%v", err)
	case err != nil && ctx.Err() != nil:
		return sdk.Errorf(sdk.Unavailable, "%v", err)
	case err != nil:
		return sdk.AsError(err)
	case out == nil:
		return unreadable(buys, errors.New("it has neither an error nor a result"))
	}
	result := resultOf(reply)
	if result == nil {
		return nil
	}
	if err := Encode(reply.ProtoReflect().Mutable(result).Message().Interface(), out); err != nil {
		return unreadable(buys, err)
	}
	if size := proto.Size(reply); size > sdk.MaxMessageSize {
		return unreadable(buys, fmt.Errorf("it has %d bytes, at most %d are carried", size, sdk.MaxMessageSize))
	}
	return nil
}

// guarded turns a panic into an error: one request must not take the others down. What
// panicked while it bought may have bought.
func guarded[In, Out any](ctx context.Context, log *slog.Logger, buys Buys, do func(context.Context, *In) (*Out, error),
	in *In) (out *Out, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			log.ErrorContext(ctx, "panic in the plugin", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
			out, err = nil, ofPlugin(unsaid(buys), "panic in the plugin: %v", cause)
		}
	}()
	return do(ctx, in)
}
