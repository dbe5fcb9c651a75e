package taxtest

import (
	"context"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// altered is an engine with a hook in it.
type altered struct {
	inner tax.Engine
	do    hook
}

var _ tax.Engine = altered{}

// theFake is the key under which a hook finds the engine below it.
type theFake struct{}

func via[In, Out any](ctx context.Context, a altered, op string, in *In, call func(context.Context, *In) (*Out, error)) (*Out, error) {
	own := *in // what a hook changes stays here
	ctx = context.WithValue(ctx, theFake{}, a.inner)
	out, err := a.do(ctx, op, &own, func() (any, error) {
		out, err := call(ctx, &own)
		if err != nil {
			return nil, err
		}
		return out, nil
	})
	answer, _ := out.(*Out)
	return answer, err
}

func (a altered) Describe(ctx context.Context) (*tax.Description, error) {
	return via(ctx, a, opDescribe, &struct{}{}, func(ctx context.Context, _ *struct{}) (*tax.Description, error) { return a.inner.Describe(ctx) })
}

func (a altered) Configure(ctx context.Context, s sdk.Settings) error {
	_, err := via(ctx, a, opConfigure, &s, func(ctx context.Context, s *sdk.Settings) (*struct{}, error) { return nil, a.inner.Configure(ctx, *s) })
	return err
}

func (a altered) Estimate(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	return via(ctx, a, tax.OpEstimate, d, a.inner.Estimate)
}

func (a altered) Finalise(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	return via(ctx, a, tax.OpFinalise, d, a.inner.Finalise)
}

func (a altered) Adjust(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	return via(ctx, a, tax.OpAdjust, d, a.inner.Adjust)
}

func (a altered) Void(ctx context.Context, r *tax.VoidRequest) (*tax.Voided, error) {
	return via(ctx, a, tax.OpVoid, r, a.inner.Void)
}

func (a altered) GetByReference(ctx context.Context, reference string) (*tax.Result, error) {
	return via(ctx, a, tax.OpGetByReference, &reference, func(ctx context.Context, r *string) (*tax.Result, error) {
		return a.inner.GetByReference(ctx, *r)
	})
}

func (a altered) ValidateTaxID(ctx context.Context, id *sdk.TaxID) (*tax.TaxIDAdvice, error) {
	return via(ctx, a, tax.OpValidateTaxID, id, a.inner.ValidateTaxID)
}
