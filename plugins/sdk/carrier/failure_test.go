package carrier_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carrierpb"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
	"github.com/crossdock/crossdock/plugins/sdk/sdkpb"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// odd is a plugin that was written against the proto file alone, and not well.
type odd struct {
	carrierpb.UnimplementedCarrierServer
	rate func(context.Context, *carrierpb.Shipment) (*carrierpb.RateReply, error)
	ship func(context.Context, *carrierpb.Shipment) (*carrierpb.ShipReply, error)
}

func (o *odd) Rate(ctx context.Context, s *carrierpb.Shipment) (*carrierpb.RateReply, error) {
	return o.rate(ctx, s)
}

func (o *odd) Ship(ctx context.Context, s *carrierpb.Shipment) (*carrierpb.ShipReply, error) {
	return o.ship(ctx, s)
}

func dial(t *testing.T, o *odd) carrier.Carrier {
	return carrier.NewClient(sdktest.Dial(t, func(s grpc.ServiceRegistrar) { carrierpb.RegisterCarrierServer(s, o) }))
}

// both asks for a price and buys, and wants an error of each.
func both(t *testing.T, c carrier.Carrier, what string, rated, shipped sdk.Class) {
	t.Helper()
	_, err := c.Rate(t.Context(), &carrier.Shipment{})
	sdktest.Fails(t, "rate, "+what, err, rated)
	_, err = c.Ship(t.Context(), &carrier.Shipment{})
	sdktest.Fails(t, "ship, "+what, err, shipped)
}

func TestAStatusInPlaceOfAnAnswerMayHaveBought(t *testing.T) {
	for code, rated := range map[codes.Code]sdk.Class{
		codes.Unavailable: sdk.Unavailable, codes.DeadlineExceeded: sdk.Unavailable, codes.Canceled: sdk.Unavailable,
		codes.Internal: sdk.Internal, codes.Unknown: sdk.Internal, codes.InvalidArgument: sdk.Internal, codes.ResourceExhausted: sdk.Internal,
		codes.Code(99): sdk.Internal,
	} {
		err := status.Error(code, strings.Repeat("long ", 2000))
		c := dial(t, &odd{
			rate: func(context.Context, *carrierpb.Shipment) (*carrierpb.RateReply, error) { return nil, err },
			ship: func(context.Context, *carrierpb.Shipment) (*carrierpb.ShipReply, error) { return nil, err },
		})
		both(t, c, code.String(), rated, sdk.UnknownOutcome)
		_, failed := c.Ship(t.Context(), &carrier.Shipment{})
		if n := len(sdk.AsError(failed).Message); n > sdk.MaxMessage {
			t.Errorf("%s: the message has %d bytes", code, n)
		}
	}
}

// That a plugin has no such call cannot be told from a provider's status that it passed on.
func TestACallThatAPluginDoesNotKnowIsNotSupportedUnlessItBuys(t *testing.T) {
	c := carrier.NewClient(sdktest.Dial(t, func(grpc.ServiceRegistrar) {}))
	both(t, c, "no such service", sdk.NotSupported, sdk.UnknownOutcome)
}

func TestAPluginThatDiesMayHaveBought(t *testing.T) {
	entered := make(chan struct{})
	o := &odd{
		rate: func(ctx context.Context, _ *carrierpb.Shipment) (*carrierpb.RateReply, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
		ship: func(ctx context.Context, _ *carrierpb.Shipment) (*carrierpb.ShipReply, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	for _, c := range []struct {
		what string
		call func(context.Context, carrier.Carrier) error
		want sdk.Class
	}{
		{"rate", func(ctx context.Context, c carrier.Carrier) error {
			_, err := c.Rate(ctx, &carrier.Shipment{})
			return err
		}, sdk.Unavailable},
		{"ship", func(ctx context.Context, c carrier.Carrier) error {
			_, err := c.Ship(ctx, &carrier.Shipment{})
			return err
		}, sdk.UnknownOutcome},
	} {
		var server *grpc.Server
		client := carrier.NewClient(sdktest.Dial(t, func(s grpc.ServiceRegistrar) {
			server = s.(*grpc.Server)
			carrierpb.RegisterCarrierServer(s, o)
		}))
		go func() { <-entered; server.Stop() }()
		sdktest.Fails(t, c.what+", the plugin dies", c.call(t.Context(), client), c.want)

		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-entered; cancel() }()
		sdktest.Fails(t, c.what+", the caller gives up", c.call(ctx, dial(t, o)), c.want)
	}
}

func TestWhatWasSurelyNotSentWasNotDone(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nobody", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	both(t, carrier.NewClient(conn), "nobody listens", sdk.Unavailable, sdk.Unavailable)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	e := &echo{}
	_, err = carriertest.Pipe(t, e).Ship(gone, &carrier.Shipment{})
	sdktest.Fails(t, "ship, the caller is gone", err, sdk.Unavailable)

	_, err = carriertest.Pipe(t, e).Ship(t.Context(), &carrier.Shipment{Order: strings.Repeat("x", sdk.MaxMessageSize)})
	if sdktest.FailsAt(t, "ship, too large", err, "order"); e.Got != nil {
		t.Error("it was sent")
	}
}

func TestAnAnswerThatCannotBeReadMayHaveBought(t *testing.T) {
	bomb := &carrierpb.Rate{Total: &sdkpb.Money{Amount: "1e999999999", Currency: "EUR"}}
	for _, c := range []struct {
		what, says string
		rate       *carrierpb.RateReply
		ship       *carrierpb.ShipReply
	}{
		{"neither error nor result", "neither", &carrierpb.RateReply{}, &carrierpb.ShipReply{}},
		{"an error and a result", "both", &carrierpb.RateReply{Error: &sdkpb.Error{Class: "not_serviced"}, Result: &carrierpb.Rates{}},
			&carrierpb.ShipReply{Error: &sdkpb.Error{Class: "not_serviced"}, Result: &carrierpb.Shipped{}}},
		{"a class of its own", "sorry", &carrierpb.RateReply{Error: &sdkpb.Error{Class: "sold_out", Message: "sorry"}},
			&carrierpb.ShipReply{Error: &sdkpb.Error{Class: "sold_out", Message: "sorry"}}},
		{"a price that is missing", "rate.total: it is missing", &carrierpb.RateReply{Result: &carrierpb.Rates{Rates: []*carrierpb.Rate{{Service: "slow"}}}},
			&carrierpb.ShipReply{Result: &carrierpb.Shipped{Rate: &carrierpb.Rate{Service: "slow"}}}},
		{"a number that is a bomb", "total.amount", &carrierpb.RateReply{Result: &carrierpb.Rates{Rates: []*carrierpb.Rate{bomb}}},
			&carrierpb.ShipReply{Result: &carrierpb.Shipped{Rate: bomb}}},
		{"a number that is missing", "total.amount", &carrierpb.RateReply{Result: &carrierpb.Rates{Rates: []*carrierpb.Rate{{Total: &sdkpb.Money{}}}}},
			&carrierpb.ShipReply{Result: &carrierpb.Shipped{Rate: &carrierpb.Rate{Total: &sdkpb.Money{}}}}},
		{"a list without end", "at most", &carrierpb.RateReply{Result: &carrierpb.Rates{Rates: make([]*carrierpb.Rate, 10_001)}},
			&carrierpb.ShipReply{Result: &carrierpb.Shipped{Documents: make([]*carrierpb.Document, 10_001)}}},
		{"too many bytes", "larger than max", &carrierpb.RateReply{Result: &carrierpb.Rates{Rates: []*carrierpb.Rate{{Name: strings.Repeat("x", sdk.MaxMessageSize)}}}},
			&carrierpb.ShipReply{Result: &carrierpb.Shipped{Shipment: strings.Repeat("x", sdk.MaxMessageSize)}}},
	} {
		client := dial(t, &odd{
			rate: func(context.Context, *carrierpb.Shipment) (*carrierpb.RateReply, error) { return c.rate, nil },
			ship: func(context.Context, *carrierpb.Shipment) (*carrierpb.ShipReply, error) { return c.ship, nil },
		})
		both(t, client, c.what, sdk.Internal, sdk.UnknownOutcome)
		if _, err := client.Ship(t.Context(), &carrier.Shipment{}); !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

func TestAnErrorOfAPluginIsCut(t *testing.T) {
	c := dial(t, &odd{ship: func(context.Context, *carrierpb.Shipment) (*carrierpb.ShipReply, error) {
		return &carrierpb.ShipReply{Error: &sdkpb.Error{Class: "conflict", Fault: "you", Message: strings.Repeat("x\x1b", sdk.MaxMessage)}}, nil
	}})
	_, err := c.Ship(t.Context(), &carrier.Shipment{})
	sdktest.Fails(t, "ship", err, sdk.Conflict)
	e := sdk.AsError(err)
	if len(e.Message) != sdk.MaxMessage || strings.Contains(e.Message, "\x1b") || e.Fault != sdk.FaultPlugin {
		t.Errorf("%d bytes, fault %q", len(e.Message), e.Fault)
	}
}

func TestARequestThatCannotBeReadIsNotDone(t *testing.T) {
	e := &echo{}
	pb := carrierpb.NewCarrierClient(sdktest.Dial(t, func(s grpc.ServiceRegistrar) { carrier.Register(s, e, quiet) }))
	here, weight := &sdkpb.Address{}, &sdkpb.Measure{Value: "1"}
	for want, asked := range map[string]*carrierpb.Shipment{
		"parcels[1].weight.value": {From: here, To: here, Parcels: []*carrierpb.Parcel{{Weight: weight}, {Weight: &sdkpb.Measure{Value: "1,5"}}}},
		"parcels[1].weight":       {From: here, To: here, Parcels: []*carrierpb.Parcel{{Weight: weight}, {}}},
		"to":                      {From: here},
		"cod.amount":              {From: here, To: here, Cod: &sdkpb.Money{Currency: "EUR"}},
	} {
		reply, err := pb.Ship(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.GetError(); got.GetClass() != string(sdk.Validation) || got.GetField() != want || e.Got != nil {
			t.Errorf("error %v, want one at %s; the carrier was asked %v", got, want, e.Got)
		}
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// faulty is an implementation that does not do what Go programs should.
type faulty struct {
	echo
	do func() error
}

func (f *faulty) Rate(context.Context, *carrier.Shipment) (*carrier.Rates, error) { return nil, f.do() }

func (f *faulty) Ship(context.Context, *carrier.Shipment) (*carrier.Shipped, error) {
	return nil, f.do()
}

func TestAFaultyImplementationIsAnsweredFor(t *testing.T) {
	for _, c := range []struct {
		what           string
		do             func() error
		rated, shipped sdk.Class
	}{
		{"a panic", func() error { panic("index out of range") }, sdk.Internal, sdk.UnknownOutcome},
		{"an error that is none of ours", func() error { return errors.New("odd") }, sdk.Internal, sdk.UnknownOutcome},
		{"a nil error of ours", func() error { var e *sdk.Error; return e }, sdk.Internal, sdk.UnknownOutcome},
		{"a class of its own", func() error { return sdk.Errorf("sold_out", "sorry") }, sdk.Internal, sdk.UnknownOutcome},
		{"nothing at all", func() error { return nil }, sdk.Internal, sdk.UnknownOutcome},
	} {
		var log strings.Builder
		f := &faulty{do: c.do}
		client := carrier.NewClient(sdktest.Dial(t, func(s grpc.ServiceRegistrar) { carrier.Register(s, f, slog.New(slog.NewTextHandler(&log, nil))) }))
		both(t, client, c.what, c.rated, c.shipped)
		if panics := c.what == "a panic"; strings.Contains(log.String(), "failure_test.go") != panics {
			t.Errorf("%s: the log has %q", c.what, log.String())
		}
		f.Answer = &carrier.Tracked{}
		if _, err := client.Track(t.Context(), &carrier.TrackRequest{}); err != nil {
			t.Errorf("%s: another call afterwards: %v", c.what, err)
		}
	}
}

func TestWhatAnImplementationCannotSayMayBeDone(t *testing.T) {
	e := &echo{}
	c := carriertest.Pipe(t, e)
	e.Answer = &carrier.Shipped{Rate: &carrier.Rate{Total: sdk.Money{Amount: decimal.New(1, 1_000_000_000)}}}
	_, err := c.Ship(t.Context(), &carrier.Shipment{})
	sdktest.Fails(t, "a number without end", err, sdk.UnknownOutcome)
	e.Answer = &carrier.Shipped{Documents: []carrier.Document{{Data: make([]byte, sdk.MaxMessageSize)}}}
	_, err = c.Ship(t.Context(), &carrier.Shipment{})
	sdktest.Fails(t, "a document without end", err, sdk.UnknownOutcome)
	if !strings.Contains(err.Error(), "at most 4194304 are carried") {
		t.Errorf("a document without end: it does not say what the limit is: %v", err)
	}
	e.Answer = &carrier.Shipped{Shipment: "caf\xe9"}
	got, err := c.Ship(t.Context(), &carrier.Shipment{})
	if err != nil || got.Shipment != "caf\uFFFD" {
		t.Errorf("text of another code: %+v, %v", got, err)
	}
}

// bytesConn answers every call with the same bytes.
type bytesConn struct{ data []byte }

func (b bytesConn) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	return proto.Unmarshal(b.data, reply.(proto.Message))
}

func (b bytesConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("there are no streams")
}

// FuzzAnswer reads what a plugin may send: it is understood, or is an error that keeps its
// limits.
func FuzzAnswer(f *testing.F) {
	for _, m := range []proto.Message{
		&carrierpb.ShipReply{Error: &sdkpb.Error{Class: "conflict", Message: "no", Provider: &sdkpb.Provider{Code: "1"}}},
		&carrierpb.ShipReply{Result: &carrierpb.Shipped{Shipment: "1", Parcels: []*carrierpb.ShippedParcel{{Label: -1}}, Rate: &carrierpb.Rate{
			Total: &sdkpb.Money{Amount: "12.50", Currency: "EUR"}, Charges: []*carrierpb.Charge{{Amount: &sdkpb.Money{Amount: "-0.5"}}}}}},
		&carrierpb.RateReply{Result: &carrierpb.Rates{Rates: []*carrierpb.Rate{{Billed: &sdkpb.Measure{Value: "1e9"}}}}},
		&carrierpb.TrackReply{Result: &carrierpb.Tracked{Parcels: []*carrierpb.TrackedParcel{{Problem: &sdkpb.Error{Class: "odd"}}}}},
		&carrierpb.DescribeReply{Result: &carrierpb.Description{Labels: []string{"zpl"}}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	e := &echo{}
	again := carriertest.Pipe(f, e) // one for all: a connection takes longer than a call
	f.Fuzz(func(t *testing.T, data []byte) {
		c := carrier.NewClient(bytesConn{data})
		shipped, err := c.Ship(t.Context(), &carrier.Shipment{})
		sound(t, err)
		rates, err := c.Rate(t.Context(), &carrier.Shipment{})
		sound(t, err)
		tracked, err := c.Track(t.Context(), &carrier.TrackRequest{})
		sound(t, err)
		description, err := c.Describe(t.Context())
		sound(t, err)
		// What was understood can be said again, and is the same.
		if e.Answer = shipped; shipped != nil {
			got, err := again.Ship(t.Context(), &carrier.Shipment{})
			travelled(t, got, shipped, err)
		}
		if e.Answer = rates; rates != nil {
			got, err := again.Rate(t.Context(), &carrier.Shipment{})
			travelled(t, got, rates, err)
		}
		if e.Answer = tracked; tracked != nil {
			got, err := again.Track(t.Context(), &carrier.TrackRequest{})
			travelled(t, got, tracked, err)
		}
		if e.Answer = description; description != nil {
			got, err := again.Describe(t.Context())
			travelled(t, got, description, err)
		}
	})
}

func travelled(t *testing.T, got, want any, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if d := sdktest.Diff(got, want); d != "" {
		t.Error(d)
	}
}

// sound wants an error that keeps its limits, if it is one.
func sound(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	e := &sdk.Error{}
	if !errors.As(err, &e) || !e.Class.Known() || *e != *e.Bounded() {
		t.Errorf("%#v", err)
	}
}
