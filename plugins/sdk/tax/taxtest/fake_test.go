package taxtest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// fake is an engine that keeps every promise, in a file.
type fake struct {
	mu    sync.Mutex // guards all below
	state string     // the file
	memory
}

// memory is what the file holds. A digest is of what was asked.
type memory struct {
	Clock int64
	Owed  map[string]finalisation // by reference
}

type finalisation struct {
	Digest string
	Answer tax.Result
}

func newFake() *fake { return &fake{} }

// save writes the file. The caller holds mu.
func (f *fake) save() error {
	text, err := json.Marshal(&f.memory)
	if err == nil {
		err = os.WriteFile(f.state, text, 0o600)
	}
	if err != nil {
		return sdk.Errorf(sdk.UnknownOutcome, "%v", err)
	}
	return nil
}

var _ tax.Engine = (*fake)(nil)

func (f *fake) Describe(context.Context) (*tax.Description, error) {
	d := &tax.Description{Covers: []tax.Coverage{{Country: "DE", Tax: "VAT"}}}
	d.Name, d.Version, d.Data = "fake", "1", "2026-11"
	d.Config = []sdk.Setting{{Name: "company", Help: "that sells", Required: true}, {Name: "state", Help: "file of what was finalised", Required: true}}
	for _, name := range operationNames {
		d.Operations = append(d.Operations, sdk.Operation{Name: name, Buys: slices.Contains([]string{tax.OpFinalise, tax.OpAdjust, tax.OpVoid}, name)})
	}
	return d, nil
}

func (f *fake) Configure(_ context.Context, s sdk.Settings) error {
	for _, name := range []string{"company", "state"} {
		if s[name] == "" {
			return sdk.Errorf(sdk.Validation, "it is missing").At(name)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.memory = s["state"], memory{Owed: map[string]finalisation{}}
	text, err := os.ReadFile(f.state)
	if err == nil {
		err = json.Unmarshal(text, &f.memory)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return sdk.Errorf(sdk.Validation, "%v", err).At("state")
	}
	return nil
}

func inOrder(d *tax.Document) error {
	_, err := time.Parse(time.DateOnly, d.Date)
	switch {
	case len(d.Lines) == 0:
		return sdk.Errorf(sdk.Validation, "there is none").At("lines")
	case len(d.Currency) != 3:
		return sdk.Errorf(sdk.Validation, "it is no currency").At("currency")
	case d.Kind != tax.Sale && d.Kind != tax.Return:
		return sdk.Errorf(sdk.Validation, "it is sale or return").At("kind")
	case err != nil:
		return sdk.Errorf(sdk.Validation, "it is no date").At("date")
	}
	return nil
}

var rates = map[string]struct{ kind, rate string }{
	tax.Standard: {tax.KindStandard, "0.19"}, tax.Food: {tax.KindReduced, "0.07"}, tax.Medicines: {tax.KindExempt, "0"},
}

func (f *fake) Estimate(_ context.Context, d *tax.Document) (*tax.Result, error) {
	if err := inOrder(d); err != nil {
		return nil, err
	}
	r := &tax.Result{Reference: d.Reference, Kind: tax.ResultEstimate, Currency: d.Currency, Status: tax.Calculated, Source: "local", Data: "2026-11"}
	total := decimal.Zero
	for _, l := range d.Lines {
		rate, ok := rates[cmp.Or(l.Category, tax.Standard)]
		if !ok || d.ShipTo.Country != "DE" {
			r.Lines = append(r.Lines, tax.LineResult{ID: l.ID, Status: tax.NotCalculated, Reason: "nobody knows", Net: l.Amount})
			r.Net = r.Net.Add(l.Amount)
			r.Status, r.Reason = tax.NotCalculated, "nobody knows all lines"
			continue
		}
		percent := decimal.RequireFromString(rate.rate)
		x := tax.Tax{Jurisdiction: tax.Jurisdiction{Country: "DE", Level: "country"}, Name: "VAT", Kind: rate.kind, Rate: percent,
			Taxable: l.Amount, Amount: l.Amount.Mul(percent).Round(2)}
		if l.Included {
			x.Amount = l.Amount.Sub(l.Amount.DivRound(percent.Add(decimal.NewFromInt(1)), 2))
			x.Taxable = l.Amount.Sub(x.Amount)
		}
		r.Lines = append(r.Lines, tax.LineResult{ID: l.ID, Status: tax.Calculated, Net: x.Taxable, Tax: decimal.NewNullDecimal(x.Amount), Taxes: []tax.Tax{x}})
		r.Net, total = r.Net.Add(x.Taxable), total.Add(x.Amount)
		r.Summary = append(r.Summary, tax.TaxSum{Jurisdiction: x.Jurisdiction, Name: x.Name, Kind: x.Kind, Rate: x.Rate, Taxable: x.Taxable, Amount: x.Amount})
	}
	if r.Status == tax.Calculated {
		r.Tax, r.Gross = decimal.NewNullDecimal(total), decimal.NewNullDecimal(r.Net.Add(total))
	}
	return r, nil
}

// settle calculates for good. The caller holds mu.
func (f *fake) settle(ctx context.Context, d *tax.Document, digest string) (*tax.Result, error) {
	r, err := f.Estimate(ctx, d)
	if err != nil {
		return nil, err
	}
	f.Clock++
	r.Final, r.Kind = time.Unix(f.Clock, 0).UTC(), tax.ResultInvoice
	if d.Kind == tax.Return {
		r.Kind = tax.ResultCredit
	}
	f.Owed[d.Reference] = finalisation{digest, *r}
	return r, f.save()
}

func (f *fake) Finalise(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	if d.Reference == "" {
		return nil, sdk.Errorf(sdk.Validation, "it is missing").At("reference")
	}
	if err := ctx.Err(); err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "%v", err)
	}
	digest, err := d.Digest()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := f.Owed[d.Reference]
	switch {
	case !ok:
		return f.settle(ctx, d, digest)
	case before.Answer.Voided:
		return nil, sdk.Errorf(sdk.Conflict, "it was voided").At("reference")
	case before.Digest != digest:
		return nil, sdk.Errorf(sdk.Duplicate, "it was finalised with other contents").At("reference")
	}
	return &before.Answer, nil
}

func (f *fake) Adjust(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	digest, err := d.Digest()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := f.Owed[d.Reference]
	switch {
	case !ok:
		return nil, sdk.Errorf(sdk.NotFound, "it was never finalised").At("reference")
	case before.Digest == digest:
		return &before.Answer, nil
	}
	return f.settle(ctx, d, digest)
}

func (f *fake) Void(_ context.Context, r *tax.VoidRequest) (*tax.Voided, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := f.Owed[r.Reference]
	if !ok {
		return nil, sdk.Errorf(sdk.NotFound, "it was never finalised").At("reference")
	}
	before.Answer.Voided = true
	f.Owed[r.Reference] = before
	return &tax.Voided{Reference: r.Reference}, f.save()
}

func (f *fake) GetByReference(_ context.Context, reference string) (*tax.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := f.Owed[reference]
	if !ok {
		return nil, sdk.Errorf(sdk.NotFound, "it was never finalised").At("reference")
	}
	return &before.Answer, nil
}

func (f *fake) ValidateTaxID(_ context.Context, id *sdk.TaxID) (*tax.TaxIDAdvice, error) {
	a := &tax.TaxIDAdvice{ID: *id, Status: tax.IDValid, Checked: "format"}
	if !strings.HasPrefix(id.Number, id.Country) {
		a.Status, a.Message = tax.IDInvalid, fmt.Sprintf("it begins with %s", id.Country)
	}
	return a, nil
}
