package remote

import (
	"errors"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// An answer is taken only if it is of what was asked and adds up: an invoice is printed from it.

func same(what, got, want string) error {
	if got != want {
		return fmt.Errorf("its %s is %.64q, not %.64q", what, got, want)
	}
	return nil
}

func checkEstimate(d *tax.Document, r *tax.Result) error {
	if !r.Final.IsZero() || r.Kind != tax.ResultEstimate || r.Voided {
		return fmt.Errorf("it is of kind %.32q and final since %s, an estimate is neither final nor voided", r.Kind, r.Final)
	}
	return checkAnswer(d, r)
}

// checkSettled checks what was calculated for good. What cannot be calculated is not kept.
func checkSettled(d *tax.Document, r *tax.Result) error {
	if r.Status == tax.NotCalculated {
		return checkEstimate(d, r)
	}
	want := tax.ResultInvoice
	if d.Kind == tax.Return {
		want = tax.ResultCredit
	}
	if r.Final.IsZero() || r.Kind != want || r.Voided {
		return fmt.Errorf("it is of kind %.32q and final since %s (voided: %v), want kind %q and a time", r.Kind, r.Final, r.Voided, want)
	}
	return checkAnswer(d, r)
}

func checkFound(reference string, r *tax.Result) error {
	if err := same("reference", r.Reference, reference); err != nil {
		return err
	}
	if r.Final.IsZero() || r.Kind != tax.ResultInvoice && r.Kind != tax.ResultCredit || r.Status != tax.Calculated {
		return fmt.Errorf("it is of kind %.32q and status %.32q, final since %s, and was to be finalised", r.Kind, r.Status, r.Final)
	}
	return checkTotals(r)
}

// checkAnswer checks that a result is the document's, line by line.
func checkAnswer(d *tax.Document, r *tax.Result) error {
	if err := errors.Join(same("reference", r.Reference, d.Reference), same("currency", r.Currency, d.Currency)); err != nil {
		return err
	}
	if len(r.Lines) != len(d.Lines) {
		return fmt.Errorf("it has %d lines of %d", len(r.Lines), len(d.Lines))
	}
	for i := range r.Lines {
		asked, got := &d.Lines[i], &r.Lines[i]
		if err := same(fmt.Sprintf("lines[%d].id", i), got.ID, asked.ID); err != nil {
			return err
		}
		net := decimal.NewNullDecimal(asked.Amount)
		if asked.Included {
			net = minus(net, got.Tax) // which is not known if the tax is not
		}
		if !equal(got.Net, net) {
			return fmt.Errorf("lines[%d].net is %s, and %s by the document", i, text(got.Net), text(net))
		}
	}
	return checkTotals(r)
}

// checkTotals checks that a result adds up, and that nothing which is not calculated is a
// number.
func checkTotals(r *tax.Result) error {
	net, owed := decimal.NewNullDecimal(decimal.Zero), decimal.Zero
	calculated := true
	for i := range r.Lines {
		l := &r.Lines[i]
		if err := checkLine(l); err != nil {
			return fmt.Errorf("lines[%d]: %w", i, err)
		}
		net = decimal.NullDecimal{Decimal: net.Decimal.Add(l.Net.Decimal), Valid: net.Valid && l.Net.Valid}
		owed = owed.Add(l.Tax.Decimal)
		calculated = calculated && l.Status == tax.Calculated
	}
	switch {
	case !equal(r.Net, net):
		return fmt.Errorf("its net is %s, and the lines' %s", text(r.Net), text(net))
	case !calculated && (r.Status != tax.NotCalculated || r.Reason == "" || r.Tax.Valid || r.Gross.Valid):
		return errors.New("a line is not calculated, so the document is not_calculated, with a reason and a null tax and gross")
	case !calculated:
		return nil
	case r.Status != tax.Calculated || !r.Tax.Valid || !r.Gross.Valid:
		return errors.New("all lines are calculated, so the document is, with tax and gross")
	case !r.Tax.Decimal.Equal(owed):
		return fmt.Errorf("its tax is %s, and the lines' %s", r.Tax.Decimal, owed)
	case !r.Net.Valid || !r.Gross.Decimal.Equal(net.Decimal.Add(owed)):
		return fmt.Errorf("its gross is %s, and net and tax come to %s", r.Gross.Decimal, net.Decimal.Add(owed))
	}
	var summed decimal.Decimal
	for _, s := range r.Summary {
		summed = summed.Add(s.Amount)
	}
	if len(r.Summary) > 0 && !summed.Equal(owed) {
		return fmt.Errorf("its tax is %s, and the summary's %s", owed, summed)
	}
	return nil
}

func minus(a, b decimal.NullDecimal) decimal.NullDecimal {
	return decimal.NullDecimal{Decimal: a.Decimal.Sub(b.Decimal), Valid: a.Valid && b.Valid}
}

func equal(a, b decimal.NullDecimal) bool {
	return a.Valid == b.Valid && (!a.Valid || a.Decimal.Equal(b.Decimal))
}

func text(n decimal.NullDecimal) string {
	if !n.Valid {
		return "null"
	}
	return n.Decimal.String()
}

func checkLine(l *tax.LineResult) error {
	switch {
	case l.Status == tax.NotCalculated && !l.Tax.Valid && l.Reason != "":
		return nil
	case l.Status == tax.NotCalculated:
		return errors.New("it is not_calculated, so there is a reason and a null tax")
	case l.Status != tax.Calculated:
		return fmt.Errorf("nobody knows the status %.32q", l.Status)
	case !l.Tax.Valid:
		return errors.New("it is calculated, so there is a tax")
	}
	var sum decimal.Decimal
	for _, x := range l.Taxes {
		sum = sum.Add(x.Amount)
	}
	if !sum.Equal(l.Tax.Decimal) {
		return fmt.Errorf("its tax is %s, and its taxes come to %s", l.Tax.Decimal, sum)
	}
	return nil
}

// checkAdvice does not compare the number: it comes back as it is written in full.
func checkAdvice(a *tax.TaxIDAdvice) error {
	if a.ID.Country == "" || a.ID.Number == "" || !slices.Contains([]string{tax.IDValid, tax.IDInvalid, tax.IDUnknown}, a.Status) ||
		!slices.Contains([]string{"format", "checksum", "registry"}, a.Checked) {
		return fmt.Errorf("it says %.32q by %.32q of number %.64q", a.Status, a.Checked, a.ID.Number)
	}
	return nil
}
