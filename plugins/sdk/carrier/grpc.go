package carrier

import (
	"context"
	"log/slog"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carrierpb"
	"github.com/crossdock/crossdock/plugins/sdk/internal/wire"
	"github.com/crossdock/crossdock/plugins/sdk/sdkpb"
)

// Kind is what a host asks a plugin for.
const Kind = "carrier"

// Serve serves a carrier to the host that started this program, until that ends it.
func Serve(c Carrier, log *slog.Logger) { sdk.Serve(Kind, &Plugin{Impl: c, Log: log}) }

// Plugin is a carrier as go-plugin knows it. A host leaves it empty and is handed a Carrier.
type Plugin struct {
	goplugin.NetRPCUnsupportedPlugin
	Impl Carrier
	Log  *slog.Logger
}

var _ goplugin.GRPCPlugin = (*Plugin)(nil)

// GRPCServer serves the carrier.
func (p *Plugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	Register(s, p.Impl, p.Log)
	return nil
}

// GRPCClient gives the Carrier at the other end.
func (p *Plugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

// What a call that ends without an answer may have done. The fault of doing one of these
// twice is the caller's to avoid, so it is said of all that can leave a mark.
const (
	looks wire.Buys = false
	buys  wire.Buys = true
)

// client is a carrier at the other end of a connection.
type client struct {
	conn grpc.ClientConnInterface
	pb   carrierpb.CarrierClient
}

var _ Carrier = (*client)(nil)

// NewClient gives the carrier at the other end of a connection.
func NewClient(conn grpc.ClientConnInterface) Carrier {
	return &client{conn, carrierpb.NewCarrierClient(conn)}
}

func (c *client) Describe(ctx context.Context) (*Description, error) {
	return wire.Call[Description](ctx, c.conn, looks, c.pb.Describe, &sdkpb.DescribeRequest{}, wire.Nothing{})
}

func (c *client) Configure(ctx context.Context, s sdk.Settings) error {
	_, err := wire.Call[wire.Nothing](ctx, c.conn, looks, c.pb.Configure, &sdkpb.ConfigureRequest{}, wire.Configuration{Settings: s})
	return err
}

func (c *client) ValidateAddress(ctx context.Context, a *sdk.Address) (*AddressAdvice, error) {
	return wire.Call[AddressAdvice](ctx, c.conn, looks, c.pb.ValidateAddress, &sdkpb.Address{}, a)
}

func (c *client) Rate(ctx context.Context, s *Shipment) (*Rates, error) {
	return wire.Call[Rates](ctx, c.conn, looks, c.pb.Rate, &carrierpb.Shipment{}, s)
}

func (c *client) Ship(ctx context.Context, s *Shipment) (*Shipped, error) {
	return wire.Call[Shipped](ctx, c.conn, buys, c.pb.Ship, &carrierpb.Shipment{}, s)
}

func (c *client) GetByReference(ctx context.Context, reference string) (*Shipped, error) {
	return wire.Call[Shipped](ctx, c.conn, looks, c.pb.GetByReference, &sdkpb.GetByReferenceRequest{}, wire.ByReference{Reference: reference})
}

func (c *client) ShipReturn(ctx context.Context, s *Shipment) (*Shipped, error) {
	return wire.Call[Shipped](ctx, c.conn, buys, c.pb.ShipReturn, &carrierpb.Shipment{}, s)
}

func (c *client) Void(ctx context.Context, r *VoidRequest) (*Voided, error) {
	return wire.Call[Voided](ctx, c.conn, buys, c.pb.Void, &carrierpb.VoidRequest{}, r)
}

func (c *client) Pickup(ctx context.Context, r *PickupRequest) (*PickedUp, error) {
	return wire.Call[PickedUp](ctx, c.conn, buys, c.pb.Pickup, &carrierpb.PickupRequest{}, r)
}

func (c *client) Manifest(ctx context.Context, r *ManifestRequest) (*Manifested, error) {
	return wire.Call[Manifested](ctx, c.conn, buys, c.pb.Manifest, &carrierpb.ManifestRequest{}, r)
}

func (c *client) Track(ctx context.Context, r *TrackRequest) (*Tracked, error) {
	return wire.Call[Tracked](ctx, c.conn, looks, c.pb.Track, &carrierpb.TrackRequest{}, r)
}

// server serves a carrier.
type server struct {
	carrierpb.UnimplementedCarrierServer
	impl Carrier
	log  *slog.Logger
}

// Register makes a server serve a carrier. A panic in it is logged and answered.
func Register(s grpc.ServiceRegistrar, c Carrier, log *slog.Logger) {
	carrierpb.RegisterCarrierServer(s, &server{impl: c, log: log})
}

func (s *server) Describe(ctx context.Context, r *sdkpb.DescribeRequest) (*carrierpb.DescribeReply, error) {
	do := func(ctx context.Context, _ *wire.Nothing) (*Description, error) { return s.impl.Describe(ctx) }
	return wire.Answer(ctx, s.log, looks, do, r, &carrierpb.DescribeReply{})
}

func (s *server) Configure(ctx context.Context, r *sdkpb.ConfigureRequest) (*sdkpb.ConfigureReply, error) {
	do := func(ctx context.Context, c *wire.Configuration) (*wire.Nothing, error) {
		return &wire.Nothing{}, s.impl.Configure(ctx, c.Settings)
	}
	return wire.Answer(ctx, s.log, looks, do, r, &sdkpb.ConfigureReply{})
}

func (s *server) ValidateAddress(ctx context.Context, r *sdkpb.Address) (*carrierpb.ValidateAddressReply, error) {
	return wire.Answer(ctx, s.log, looks, s.impl.ValidateAddress, r, &carrierpb.ValidateAddressReply{})
}

func (s *server) Rate(ctx context.Context, r *carrierpb.Shipment) (*carrierpb.RateReply, error) {
	return wire.Answer(ctx, s.log, looks, s.impl.Rate, r, &carrierpb.RateReply{})
}

func (s *server) Ship(ctx context.Context, r *carrierpb.Shipment) (*carrierpb.ShipReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.Ship, r, &carrierpb.ShipReply{})
}

func (s *server) GetByReference(ctx context.Context, r *sdkpb.GetByReferenceRequest) (*carrierpb.ShipReply, error) {
	do := func(ctx context.Context, r *wire.ByReference) (*Shipped, error) {
		return s.impl.GetByReference(ctx, r.Reference)
	}
	return wire.Answer(ctx, s.log, looks, do, r, &carrierpb.ShipReply{})
}

func (s *server) ShipReturn(ctx context.Context, r *carrierpb.Shipment) (*carrierpb.ShipReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.ShipReturn, r, &carrierpb.ShipReply{})
}

func (s *server) Void(ctx context.Context, r *carrierpb.VoidRequest) (*carrierpb.VoidReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.Void, r, &carrierpb.VoidReply{})
}

func (s *server) Pickup(ctx context.Context, r *carrierpb.PickupRequest) (*carrierpb.PickupReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.Pickup, r, &carrierpb.PickupReply{})
}

func (s *server) Manifest(ctx context.Context, r *carrierpb.ManifestRequest) (*carrierpb.ManifestReply, error) {
	return wire.Answer(ctx, s.log, buys, s.impl.Manifest, r, &carrierpb.ManifestReply{})
}

func (s *server) Track(ctx context.Context, r *carrierpb.TrackRequest) (*carrierpb.TrackReply, error) {
	return wire.Answer(ctx, s.log, looks, s.impl.Track, r, &carrierpb.TrackReply{})
}
