package taxtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

func sale(to string) tax.Document {
	amount := decimal.RequireFromString
	return tax.Document{
		Kind: tax.Sale, Date: "2026-11-30", Currency: "EUR", ShipTo: sdk.Address{Country: to},
		Lines: []tax.Line{{ID: "1", Amount: amount("10.99")}, {ID: "2", Category: tax.Food, Amount: amount("5.55")},
			{ID: "3", Category: tax.Medicines, Amount: amount("7")}},
	}
}

func settings(t testing.TB) sdk.Settings {
	return sdk.Settings{"company": "7", "state": filepath.Join(t.TempDir(), "state.json")}
}

func config(do hook) Config {
	return Config{
		New:    func(t testing.TB) (tax.Engine, sdk.Settings) { return altered{newFake(), do}, settings(t) },
		Reopen: func(testing.TB) tax.Engine { return altered{newFake(), do} },
		Knows:  sale("DE"), Unknown: sale("AQ"),
		Valid: sdk.TaxID{Country: "DE", Kind: "vat", Number: "DE123456789"}, Invalid: sdk.TaxID{Country: "DE", Kind: "vat", Number: "7"},
	}
}

func TestAnEngineThatKeepsEveryPromisePasses(t *testing.T) {
	Run(t, config(func(_ context.Context, _ string, _ any, next func() (any, error)) (any, error) { return next() }))
}

func TestAnEngineThatBreaksAPromiseFails(t *testing.T) {
	broken := map[string]int{}
	for _, m := range slices.Concat(wrongWords, wrongSums, wrongMemory) {
		t.Run(m.check+"/"+m.name, func(t *testing.T) {
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == m.check })
			if i < 0 {
				t.Fatalf("there is no check %q", m.check)
			}
			broken[m.check]++
			failures := sdktest.Record(t, func(t testing.TB) { checks[i].run(t, start(t, config(m.do()))) })
			if len(failures) == 0 {
				t.Error("it passes")
			}
			t.Logf("%q", failures)
		})
	}
	for _, c := range checks {
		if broken[c.name] == 0 {
			t.Errorf("nothing breaks what %q checks", c.name)
		}
	}
}

// hook stands between a suite and the fake: it may change what is asked, and what is answered.
type hook func(ctx context.Context, op string, in any, next func() (any, error)) (any, error)

// mutation is an engine that breaks one promise.
type mutation struct {
	check, name string
	do          func() hook
}

const (
	opDescribe  = "describe"
	opConfigure = "configure"
)

// answers changes what an operation answers.
func answers[Out any](op string, change func(*Out)) func() hook {
	return func() hook {
		return func(_ context.Context, called string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if called != op || err != nil {
				return out, err
			}
			text, err := json.Marshal(out)
			if err != nil {
				return nil, err
			}
			changed := new(Out)
			if err := json.Unmarshal(text, changed); err != nil {
				return nil, err
			}
			change(changed)
			return changed, nil
		}
	}
}

// fails changes what comes of errors of a class: another answer, or another error.
func fails(op string, class sdk.Class, become func(in any, e sdk.Error) (any, error)) func() hook {
	return func() hook {
		return func(_ context.Context, called string, in any, next func() (any, error)) (any, error) {
			out, err := next()
			if called == op && err != nil && sdk.ClassOf(err) == class {
				return become(in, *sdk.AsError(err))
			}
			return out, err
		}
	}
}

func as(class sdk.Class) func(any, sdk.Error) (any, error) {
	return func(_ any, e sdk.Error) (any, error) { e.Class = class; return nil, &e }
}

func well(answer any) func(any, sdk.Error) (any, error) {
	return func(any, sdk.Error) (any, error) { return answer, nil }
}

func nowhere(_ any, e sdk.Error) (any, error) { return nil, e.At("document") }

func without(op string) func() hook {
	return answers(opDescribe, func(d *tax.Description) {
		d.Operations = slices.DeleteFunc(d.Operations, func(o sdk.Operation) bool { return o.Name == op })
	})
}

func described(change func(*tax.Description)) func() hook { return answers(opDescribe, change) }

// later changes what is described, by how often it was.
func later(change func(*tax.Description, int)) func() hook {
	return func() hook {
		n := 0
		return described(func(d *tax.Description) { n++; change(d, n) })()
	}
}

var wrongWords = []mutation{
	{"describe", "no name", described(func(d *tax.Description) { d.Name = "" })},
	{"describe", "an operation that nobody knows", described(func(d *tax.Description) { d.Operations[0].Name = "ship" })},
	{"describe", "it covers nothing", described(func(d *tax.Description) { d.Covers = nil })},
	{"describe", "it covers no tax", described(func(d *tax.Description) { d.Covers[0].Tax = "" })},
	{"describe", "what is final cannot be looked up", without(tax.OpGetByReference)},
	{"describe", "something else each time", later(func(d *tax.Description, n int) { d.Data = fmt.Sprint(n) })},
	{"describe", "another name once it is configured", later(func(d *tax.Description, n int) { d.Name = fmt.Sprint("fake", min(n, 2)) })},
	{"describe", "other settings once it is configured", later(func(d *tax.Description, n int) { d.Config = d.Config[:len(d.Config)-min(n-1, 1)] })},
	{"configure", "a missing setting is taken", fails(opConfigure, sdk.Validation, well(nil))},
	{"configure", "the setting is not named", fails(opConfigure, sdk.Validation, nowhere)},
	{"operations", "one works that is not described", without(tax.OpValidateTaxID)},
	{"operations", "one is described that does not work", func() hook {
		return func(_ context.Context, op string, _ any, next func() (any, error)) (any, error) {
			if op == tax.OpAdjust {
				return nil, sdk.Errorf(sdk.NotSupported, "later")
			}
			return next()
		}
	}},
	{"refuses", "no line is fine", fails(tax.OpEstimate, sdk.Validation, well(&tax.Result{}))},
	{"refuses", "no reference is fine", fails(tax.OpFinalise, sdk.Validation, well(&tax.Result{}))},
	{"refuses", "the field is not named", fails(tax.OpFinalise, sdk.Validation, nowhere)},
	{"refuses", "an error that is none of ours", fails(tax.OpEstimate, sdk.Validation, func(any, sdk.Error) (any, error) { return nil, errors.New("no") })},
	{"tax id", "a good one is invalid", answers(tax.OpValidateTaxID, func(a *tax.TaxIDAdvice) { a.Status = tax.IDInvalid })},
	{"tax id", "a bad one is valid", answers(tax.OpValidateTaxID, func(a *tax.TaxIDAdvice) { a.Status = tax.IDValid })},
	{"tax id", "by which look", answers(tax.OpValidateTaxID, func(a *tax.TaxIDAdvice) { a.Checked = "" })},
	{"tax id", "of which number", answers(tax.OpValidateTaxID, func(a *tax.TaxIDAdvice) { a.ID = sdk.TaxID{} })},
}

func estimated(change func(*tax.Result)) func() hook { return answers(tax.OpEstimate, change) }

func cents(n int64) decimal.Decimal { return decimal.New(n, -2) }

func null(n int64) decimal.NullDecimal { return decimal.NewNullDecimal(cents(n)) }

var wrongSums = []mutation{
	{"estimate", "another reference", estimated(func(r *tax.Result) { r.Reference = "" })},
	{"estimate", "another currency", estimated(func(r *tax.Result) { r.Currency = "USD" })},
	{"estimate", "it says that it is an invoice", estimated(func(r *tax.Result) { r.Kind = tax.ResultInvoice })},
	{"estimate", "it is voided", estimated(func(r *tax.Result) { r.Voided = true })},
	{"estimate", "from nowhere", estimated(func(r *tax.Result) { r.Source = "" })},
	{"estimate", "of tables without version", estimated(func(r *tax.Result) { r.Data = "" })},
	{"estimate", "it is final", estimated(func(r *tax.Result) { r.Final = time.Unix(1, 0) })},
	{"estimate", "a line is missing", estimated(func(r *tax.Result) { r.Lines = r.Lines[1:] })},
	{"estimate", "lines in another order", estimated(func(r *tax.Result) { slices.Reverse(r.Lines) })},
	{"estimate", "net does not add up", estimated(func(r *tax.Result) { r.Net = cents(1) })},
	{"estimate", "tax does not add up", estimated(func(r *tax.Result) { r.Tax = null(1) })},
	{"estimate", "gross does not add up", estimated(func(r *tax.Result) { r.Gross = null(1) })},
	{"estimate", "gross is null", estimated(func(r *tax.Result) { r.Gross.Valid = false })},
	{"estimate", "the taxes of a line do not add up", estimated(func(r *tax.Result) { r.Lines[0].Taxes[0].Amount = cents(1) })},
	{"estimate", "a line has no taxes", estimated(func(r *tax.Result) { r.Lines[2].Taxes = nil })},
	{"estimate", "a tax of a kind that nobody knows", estimated(func(r *tax.Result) { r.Lines[0].Taxes[0].Kind = "odd" })},
	{"estimate", "a tax without name", estimated(func(r *tax.Result) { r.Lines[0].Taxes[0].Name = "" })},
	{"estimate", "what is exempt owes", estimated(func(r *tax.Result) { r.Lines[0].Taxes[0].Kind = tax.KindExempt })},
	{"estimate", "the summary lacks a tax", estimated(func(r *tax.Result) { r.Summary = r.Summary[1:] })},
	{"estimate", "the summary is wrong", estimated(func(r *tax.Result) { r.Summary[0].Taxable = cents(1) })},
	{"estimate", "a status that nobody knows", estimated(func(r *tax.Result) { r.Lines[0].Status = "maybe" })},
	{"estimate", "what is known is not calculated", estimated(func(r *tax.Result) {
		r.Status, r.Reason, r.Tax, r.Gross = tax.NotCalculated, "lazy", decimal.NullDecimal{}, decimal.NullDecimal{}
		for i := range r.Lines {
			l := &r.Lines[i]
			l.Status, l.Reason, l.Tax, l.Taxes = tax.NotCalculated, "lazy", decimal.NullDecimal{}, nil
		}
	})},
	{"estimate", "taxes on top of what holds them", func() hook {
		return func(_ context.Context, op string, in any, next func() (any, error)) (any, error) {
			if d, ok := in.(*tax.Document); ok && op == tax.OpEstimate {
				d.Lines = slices.Clone(d.Lines)
				for i := range d.Lines {
					d.Lines[i].Included = false
				}
			}
			return next()
		}
	}},
	{"return", "amounts below zero", estimated(func(r *tax.Result) {
		for i := range r.Lines {
			l := &r.Lines[i]
			l.Net, l.Tax.Decimal, l.Taxes[0].Amount = l.Net.Neg(), l.Tax.Decimal.Neg(), l.Taxes[0].Amount.Neg()
		}
		r.Net, r.Tax.Decimal, r.Gross.Decimal = r.Net.Neg(), r.Tax.Decimal.Neg(), r.Gross.Decimal.Neg()
	})},
	{"not calculated", "the document owes zero", estimated(func(r *tax.Result) { r.Tax = null(0) })},
	{"not calculated", "the document's gross is its net", estimated(func(r *tax.Result) { r.Gross = decimal.NewNullDecimal(r.Net) })},
	{"not calculated", "a line owes zero", estimated(func(r *tax.Result) { r.Lines[0].Tax = null(0) })},
	{"not calculated", "a line does not say why", estimated(func(r *tax.Result) { r.Lines[0].Reason = "" })},
	{"not calculated", "the document does not say why", estimated(func(r *tax.Result) { r.Reason = "" })},
	{"not calculated", "the document is calculated", estimated(func(r *tax.Result) { r.Status = tax.Calculated })},
	{"not calculated", "it is an error", func() hook {
		return func(_ context.Context, op string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if r, ok := out.(*tax.Result); ok && op == tax.OpEstimate && r.Status == tax.NotCalculated {
				return nil, sdk.Errorf(sdk.NotServiced, "nobody knows")
			}
			return out, err
		}
	}},
	{"not calculated", "everything is exempt", estimated(func(r *tax.Result) {
		r.Status, r.Tax, r.Gross = tax.Calculated, null(0), decimal.NewNullDecimal(r.Net)
		for i := range r.Lines {
			l := &r.Lines[i]
			l.Status, l.Tax = tax.Calculated, null(0)
			l.Taxes = []tax.Tax{{Jurisdiction: tax.Jurisdiction{Country: "AQ"}, Name: "VAT", Kind: tax.KindOutside}}
		}
		r.Summary = []tax.TaxSum{{Jurisdiction: tax.Jurisdiction{Country: "AQ"}, Name: "VAT", Kind: tax.KindOutside}}
	})},
}

// anew makes every Finalise one of its own.
func anew() hook {
	var n atomic.Int64
	return func(_ context.Context, op string, in any, next func() (any, error)) (any, error) {
		d, ok := in.(*tax.Document)
		if !ok || op != tax.OpFinalise {
			return next()
		}
		was := d.Reference
		d.Reference = fmt.Sprint(was, "-", n.Add(1))
		out, err := next()
		if err != nil {
			return nil, err
		}
		r := *out.(*tax.Result)
		r.Reference = was
		return &r, nil
	}
}

// reopened changes what an operation answers once the engine was opened again.
func reopened(op string, change func(out any) (any, error)) func() hook {
	return func() hook {
		opened := 0
		return func(_ context.Context, called string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if called == opConfigure {
				opened++
			}
			if called == op && opened > 1 && err == nil {
				return change(out)
			}
			return out, err
		}
	}
}

func atAnotherTime(out any) (any, error) {
	r := *out.(*tax.Result)
	r.Final = r.Final.Add(time.Second)
	return &r, nil
}

var wrongMemory = []mutation{
	{"estimate leaves nothing", "it is final", func() hook {
		return func(ctx context.Context, op string, in any, next func() (any, error)) (any, error) {
			if op == tax.OpEstimate {
				_, _ = ctx.Value(theFake{}).(tax.Engine).Finalise(ctx, in.(*tax.Document))
			}
			return next()
		}
	}},
	{"at once", "it is finalised twice", anew},
	{"at once", "one answer for all", func() hook {
		var first atomic.Pointer[tax.Result]
		return func(_ context.Context, op string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if r, ok := out.(*tax.Result); ok && op == tax.OpFinalise && !first.CompareAndSwap(nil, r) {
				return first.Load(), err
			}
			return out, err
		}
	}},
	{"broken off", "an error that is none of ours", fails(tax.OpFinalise, sdk.Unavailable, func(any, sdk.Error) (any, error) { return nil, context.Canceled })},
	{"broken off", "surely not done, and done", func() hook {
		return func(ctx context.Context, op string, in any, next func() (any, error)) (any, error) {
			if op == tax.OpFinalise && ctx.Err() != nil {
				_, _ = ctx.Value(theFake{}).(tax.Engine).Finalise(context.Background(), in.(*tax.Document))
			}
			return next()
		}
	}},
	{"finalise", "it does not say when", answers(tax.OpFinalise, func(r *tax.Result) { r.Final = time.Time{} })},
	{"finalise", "tax does not add up", answers(tax.OpFinalise, func(r *tax.Result) { r.Tax = null(1) })},
	{"finalise", "the estimate was another", estimated(func(r *tax.Result) { r.Tax = null(1) })},
	{"finalise", "it is an estimate", answers(tax.OpFinalise, func(r *tax.Result) { r.Kind = tax.ResultEstimate })},
	{"finalise a return", "it is an invoice", answers(tax.OpFinalise, func(r *tax.Result) { r.Kind = tax.ResultInvoice })},
	{"finalise a return", "it does not say when", answers(tax.OpFinalise, func(r *tax.Result) { r.Kind, r.Final = tax.ResultEstimate, time.Time{} })},
	{"finalise twice", "it is finalised twice", anew},
	{"finalise twice", "other contents are fine", fails(tax.OpFinalise, sdk.Duplicate, well(&tax.Result{}))},
	{"finalise twice", "another class", fails(tax.OpFinalise, sdk.Duplicate, as(sdk.Conflict))},
	{"lookup", "what was never finalised may have been", fails(tax.OpGetByReference, sdk.NotFound, as(sdk.Unavailable))},
	{"lookup", "it finds what was never finalised", fails(tax.OpGetByReference, sdk.NotFound, well(&tax.Result{}))},
	{"lookup", "without notes", answers(tax.OpFinalise, func(r *tax.Result) { r.Notes = []string{"reverse charge"} })},
	{"adjust", "nothing changes", func() hook {
		return func(ctx context.Context, op string, in any, next func() (any, error)) (any, error) {
			if op == tax.OpAdjust {
				return ctx.Value(theFake{}).(tax.Engine).GetByReference(ctx, in.(*tax.Document).Reference)
			}
			return next()
		}
	}},
	{"adjust", "and nobody sees it", func() hook {
		return func(ctx context.Context, op string, in any, next func() (any, error)) (any, error) {
			if op == tax.OpAdjust {
				return ctx.Value(theFake{}).(tax.Engine).Estimate(ctx, in.(*tax.Document))
			}
			return next()
		}
	}},
	{"adjust", "a second time is another", func() hook {
		n := 0
		return answers(tax.OpAdjust, func(r *tax.Result) { n++; r.Final = r.Final.Add(time.Duration(n)) })()
	}},
	{"adjust", "what was never finalised", fails(tax.OpAdjust, sdk.NotFound, well(&tax.Result{}))},
	{"void", "not a second time", func() hook {
		n := 0
		return func(_ context.Context, op string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if op == tax.OpVoid && err == nil {
				if n++; n > 1 {
					return nil, sdk.Errorf(sdk.Conflict, "it is voided")
				}
			}
			return out, err
		}
	}},
	{"void", "what was never finalised", fails(tax.OpVoid, sdk.NotFound, well(&tax.Voided{}))},
	{"void", "and nobody sees it", answers(tax.OpGetByReference, func(r *tax.Result) { r.Voided = false })},
	{"void", "what was voided is not found", fails(tax.OpFinalise, sdk.Conflict, as(sdk.NotFound))},
	{"void", "it is finalised again", fails(tax.OpFinalise, sdk.Conflict, well(&tax.Result{}))},
	{"reopen", "nothing was finalised", reopened(tax.OpGetByReference, func(any) (any, error) {
		return nil, sdk.Errorf(sdk.NotFound, "it was never finalised").At("reference")
	})},
	{"reopen", "it is finalised again", reopened(tax.OpFinalise, atAnotherTime)},
	{"reopen", "it is adjusted again", reopened(tax.OpAdjust, atAnotherTime)},
	{"reopen", "it is not voided", reopened(tax.OpGetByReference, func(out any) (any, error) {
		r := *out.(*tax.Result)
		r.Voided = false
		return &r, nil
	})},
	{"reopen", "it cannot be voided again", reopened(tax.OpVoid, func(any) (any, error) {
		return nil, sdk.Errorf(sdk.Conflict, "it is voided")
	})},
	{"void", "no reference", answers(tax.OpVoid, func(v *tax.Voided) { v.Reference = "" })},
}
