package tax

import (
	"context"
	"log/slog"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/internal/wire"
	"github.com/crossdock/crossdock/plugins/sdk/sdkpb"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxpb"
)

// Kind is what a host asks a plugin for.
const Kind = "tax"

// Serve serves an engine to the host that started this program, until that ends it.
func Serve(e Engine, log *slog.Logger) { sdk.Serve(Kind, &Plugin{Impl: e, Log: log}) }

// Plugin is a tax engine as go-plugin knows it. A host leaves it empty and is handed an
// Engine.
type Plugin struct {
	goplugin.NetRPCUnsupportedPlugin
	Impl Engine
	Log  *slog.Logger
}

var _ goplugin.GRPCPlugin = (*Plugin)(nil)

// GRPCServer serves the engine.
func (p *Plugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	Register(s, p.Impl, p.Log)
	return nil
}

// GRPCClient gives the Engine at the other end.
func (p *Plugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

// Whether a call that ends without an answer may have left a mark.
const (
	looks wire.Buys = false
	buys  wire.Buys = true
)

// client is an engine at the other end of a connection.
type client struct {
	conn grpc.ClientConnInterface
	pb   taxpb.EngineClient
}

var _ Engine = (*client)(nil)

// NewClient gives the engine at the other end of a connection.
func NewClient(conn grpc.ClientConnInterface) Engine {
	return &client{conn, taxpb.NewEngineClient(conn)}
}

func (c *client) Describe(ctx context.Context) (*Description, error) {
	return wire.Call[Description](ctx, c.conn, looks, c.pb.Describe, &sdkpb.DescribeRequest{}, wire.Nothing{})
}

func (c *client) Configure(ctx context.Context, s sdk.Settings) error {
	_, err := wire.Call[wire.Nothing](ctx, c.conn, looks, c.pb.Configure, &sdkpb.ConfigureRequest{}, wire.Configuration{Settings: s})
	return err
}

func (c *client) Estimate(ctx context.Context, d *Document) (*Result, error) {
	return wire.Call[Result](ctx, c.conn, looks, c.pb.Estimate, &taxpb.Document{}, d)
}

func (c *client) Finalise(ctx context.Context, d *Document) (*Result, error) {
	return wire.Call[Result](ctx, c.conn, buys, c.pb.Finalise, &taxpb.Document{}, d)
}

func (c *client) Adjust(ctx context.Context, d *Document) (*Result, error) {
	return wire.Call[Result](ctx, c.conn, buys, c.pb.Adjust, &taxpb.Document{}, d)
}

func (c *client) Void(ctx context.Context, r *VoidRequest) (*Voided, error) {
	return wire.Call[Voided](ctx, c.conn, buys, c.pb.Void, &taxpb.VoidRequest{}, r)
}

func (c *client) GetByReference(ctx context.Context, reference string) (*Result, error) {
	return wire.Call[Result](ctx, c.conn, looks, c.pb.GetByReference, &sdkpb.GetByReferenceRequest{}, wire.ByReference{Reference: reference})
}

func (c *client) ValidateTaxID(ctx context.Context, id *sdk.TaxID) (*TaxIDAdvice, error) {
	return wire.Call[TaxIDAdvice](ctx, c.conn, looks, c.pb.ValidateTaxID, &sdkpb.TaxID{}, id)
}

// server serves an engine.
type server struct {
	taxpb.UnimplementedEngineServer
	impl Engine
	log  *slog.Logger
}

// Register makes a server serve an engine. A panic in it is logged and answered.
func Register(s grpc.ServiceRegistrar, e Engine, log *slog.Logger) {
	taxpb.RegisterEngineServer(s, &server{impl: e, log: log})
}

func (s *server) Describe(ctx context.Context, r *sdkpb.DescribeRequest) (*taxpb.DescribeReply, error) {
	do := func(ctx context.Context, _ *wire.Nothing) (*Description, error) { return s.impl.Describe(ctx) }
	return wire.Answer(ctx, s.log, looks, do, r, &taxpb.DescribeReply{})
}

func (s *server) Configure(ctx context.Context, r *sdkpb.ConfigureRequest) (*sdkpb.ConfigureReply, error) {
	do := func(ctx context.Context, c *wire.Configuration) (*wire.Nothing, error) {
		return &wire.Nothing{}, s.impl.Configure(ctx, c.Settings)
	}
	return wire.Answer(ctx, s.log, looks, do, r, &sdkpb.ConfigureReply{})
}

func (s *server) Estimate(ctx context.Context, r *taxpb.Document) (*taxpb.ResultReply, error) {
	return wire.Answer(ctx, s.log, looks, s.impl.Estimate, r, &taxpb.ResultReply{})
}

func (s *server) Finalise(ctx context.Context, r *taxpb.Document) (*taxpb.ResultReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.Finalise, r, &taxpb.ResultReply{})
}

func (s *server) Adjust(ctx context.Context, r *taxpb.Document) (*taxpb.ResultReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.Adjust, r, &taxpb.ResultReply{})
}

func (s *server) Void(ctx context.Context, r *taxpb.VoidRequest) (*taxpb.VoidReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.Void, r, &taxpb.VoidReply{})
}

func (s *server) GetByReference(ctx context.Context, r *sdkpb.GetByReferenceRequest) (*taxpb.ResultReply, error) {
	do := func(ctx context.Context, r *wire.ByReference) (*Result, error) {
		return s.impl.GetByReference(ctx, r.Reference)
	}
	return wire.Answer(ctx, s.log, looks, do, r, &taxpb.ResultReply{})
}

func (s *server) ValidateTaxID(ctx context.Context, r *sdkpb.TaxID) (*taxpb.ValidateTaxIDReply, error) {
	return wire.Answer(ctx, s.log, looks, s.impl.ValidateTaxID, r, &taxpb.ValidateTaxIDReply{})
}
