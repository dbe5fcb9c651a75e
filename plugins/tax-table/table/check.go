package table

import (
	"fmt"
	"strings"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Limits of a document.
const (
	maxLines     = 10_000
	maxReference = 256 // bytes
	maxDigits    = 24  // of an amount
)

func checkReference(reference string) error {
	switch {
	case reference == "":
		return sdk.Errorf(sdk.Validation, "the reference is missing").At("reference")
	case len(reference) > maxReference:
		return sdk.Errorf(sdk.Validation, "the reference has %d bytes, at most %d", len(reference), maxReference).At("reference")
	}
	return nil
}

// check finds what is wrong with a document, before anything is looked up.
func check(d *tax.Document) error {
	switch {
	case d.Kind != tax.Sale && d.Kind != tax.Return:
		return sdk.Errorf(sdk.Validation, "%q is neither sale nor return", d.Kind).At("kind")
	case !isDate(d.Date):
		return sdk.Errorf(sdk.Validation, "%q is no date such as 2006-01-02", d.Date).At("date")
	case d.TaxPoint != "" && !isDate(d.TaxPoint):
		return sdk.Errorf(sdk.Validation, "%q is no date such as 2006-01-02", d.TaxPoint).At("taxPoint")
	case len(d.Currency) != 3 || strings.ToUpper(d.Currency) != d.Currency:
		return sdk.Errorf(sdk.Validation, "%q is no ISO 4217 currency code", d.Currency).At("currency")
	case len(d.Lines) == 0:
		return sdk.Errorf(sdk.Validation, "there are no lines").At("lines")
	case len(d.Lines) > maxLines:
		return sdk.Errorf(sdk.Validation, "there are %d lines, at most %d", len(d.Lines), maxLines).At("lines")
	}
	seen := map[string]bool{}
	for i := range d.Lines {
		l := &d.Lines[i]
		if l.ID == "" || seen[l.ID] {
			return sdk.Errorf(sdk.Validation, "the line's id %q is empty or another line's too", l.ID).At(fmt.Sprintf("lines[%d].id", i))
		}
		seen[l.ID] = true
		if err := checkAmount(l, d.Currency); err != nil {
			return err.At(fmt.Sprintf("lines[%d].amount", i))
		}
	}
	return nil
}

func checkAmount(l *tax.Line, currency string) *sdk.Error {
	digits := sdk.MinorDigits(currency)
	switch exponent := l.Amount.Exponent(); {
	case exponent > maxDigits || exponent < -maxDigits || l.Amount.NumDigits() > maxDigits:
		return sdk.Errorf(sdk.Validation, "the amount has more than %d digits", maxDigits)
	case l.Amount.IsNegative():
		return sdk.Errorf(sdk.Validation, "the amount is negative").Suggest("make it a document of kind return, or deduct the discount from the line that it is for")
	case !l.Amount.Equal(l.Amount.Truncate(digits)):
		return sdk.Errorf(sdk.Validation, "%s has more decimals than %s, which has %d", l.Amount, currency, digits).Suggest("round the amount of the line")
	}
	return nil
}
