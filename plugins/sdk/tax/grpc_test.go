package tax_test

import (
	"context"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
)

// echo is an engine that says what it is told to.
type echo struct{ sdktest.Echo }

var _ tax.Engine = (*echo)(nil)

func (e *echo) Describe(context.Context) (*tax.Description, error) {
	return sdktest.Hear[tax.Description](&e.Echo, nil)
}

func (e *echo) Configure(_ context.Context, s sdk.Settings) error {
	_, err := sdktest.Hear[struct{}](&e.Echo, s)
	return err
}

func (e *echo) Estimate(_ context.Context, d *tax.Document) (*tax.Result, error) {
	return sdktest.Hear[tax.Result](&e.Echo, d)
}

func (e *echo) Finalise(_ context.Context, d *tax.Document) (*tax.Result, error) {
	return sdktest.Hear[tax.Result](&e.Echo, d)
}

func (e *echo) Adjust(_ context.Context, d *tax.Document) (*tax.Result, error) {
	return sdktest.Hear[tax.Result](&e.Echo, d)
}

func (e *echo) Void(_ context.Context, r *tax.VoidRequest) (*tax.Voided, error) {
	return sdktest.Hear[tax.Voided](&e.Echo, r)
}

func (e *echo) GetByReference(_ context.Context, r string) (*tax.Result, error) {
	return sdktest.Hear[tax.Result](&e.Echo, r)
}

func (e *echo) ValidateTaxID(_ context.Context, id *sdk.TaxID) (*tax.TaxIDAdvice, error) {
	return sdktest.Hear[tax.TaxIDAdvice](&e.Echo, id)
}

func TestEveryFieldTravels(t *testing.T) {
	e := &echo{}
	sdktest.Travels(t, reflect.TypeFor[tax.Engine](), taxtest.Pipe(t, e), &e.Echo, sdktest.Full)
}

func TestWhatIsEmptyTravels(t *testing.T) {
	e := &echo{}
	c := taxtest.Pipe(t, e)
	rapid.Check(t, func(r *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(r, "choice") }
		sdktest.Travels(t, reflect.TypeFor[tax.Engine](), c, &e.Echo, pick)
	})
}

func TestEveryTypeHasAJSONForm(t *testing.T) { sdktest.HasJSON(t, reflect.TypeFor[tax.Engine]()) }
