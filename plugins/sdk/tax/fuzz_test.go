package tax_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdkpb"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxpb"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
)

// bytesConn answers every call with the same bytes.
type bytesConn struct{ data []byte }

func (b bytesConn) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	return proto.Unmarshal(b.data, reply.(proto.Message))
}

func (b bytesConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.New("there are no streams")
}

// FuzzAnswer reads what a plugin may send: it is understood, or is an error that keeps its
// limits. What is not calculated is not zero.
func FuzzAnswer(f *testing.F) {
	for _, m := range []proto.Message{
		&taxpb.ResultReply{Error: &sdkpb.Error{Class: "conflict", Message: "no"}},
		&taxpb.ResultReply{Result: &taxpb.Result{Net: proto.String("1"), Tax: proto.String("0.19"), Lines: []*taxpb.LineResult{{Net: proto.String("1"), Tax: proto.String("0.19"),
			Taxes: []*taxpb.Tax{{Rate: "0.19", Taxable: "1", Amount: "0.19"}}}}}},
		&taxpb.ResultReply{Result: &taxpb.Result{Net: proto.String("1e9")}},
		&taxpb.ValidateTaxIDReply{Result: &taxpb.TaxIDAdvice{Status: "valid"}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	e := &echo{}
	again := taxtest.Pipe(f, e) // one for all: a connection takes longer than a call
	f.Fuzz(func(t *testing.T, data []byte) {
		c := tax.NewClient(bytesConn{data})
		advice, err := c.ValidateTaxID(t.Context(), &sdk.TaxID{})
		sound(t, err)
		result, err := c.Finalise(t.Context(), &tax.Document{})
		sound(t, err)
		if e.Answer = advice; advice != nil {
			got, err := again.ValidateTaxID(t.Context(), &sdk.TaxID{})
			travelled(t, got, advice, err)
		}
		if e.Answer = result; result != nil {
			got, err := again.Finalise(t.Context(), &tax.Document{})
			travelled(t, got, result, err)
			var reply taxpb.ResultReply
			if err := proto.Unmarshal(data, &reply); err != nil || reply.GetResult().Tax == nil && got.Tax.Valid {
				t.Errorf("what was not calculated is %s", got.Tax.Decimal)
			}
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
