package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// recordVersion is of the records below. They are types of their own, so that a book outlives
// changes of the contract. Who changes them in a way that an older program would misread gives
// them the next version, and keeps reading the ones before.
const recordVersion = 1

// record is what the book says: that a document was finalised or adjusted, or that it was
// voided.
type record struct {
	Reference string        `json:"reference"`
	Sum       string        `json:"sum,omitempty"`
	TaxPoint  string        `json:"taxPoint,omitempty"`
	Voided    bool          `json:"voided,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	Result    *resultRecord `json:"result,omitempty"` // of what is not voided
}

type resultRecord struct {
	Reference   string              `json:"reference"`
	Kind        string              `json:"kind"`
	Currency    string              `json:"currency"`
	Status      string              `json:"status"`
	Reason      string              `json:"reason,omitempty"`
	Lines       []lineRecord        `json:"lines"`
	Net         decimal.Decimal     `json:"net"`
	Tax         decimal.NullDecimal `json:"tax"`
	Gross       decimal.NullDecimal `json:"gross"`
	Summary     []sumRecord         `json:"summary,omitempty"`
	Notes       []string            `json:"notes,omitempty"`
	Source      string              `json:"source"`
	Data        string              `json:"data"`
	Provisional bool                `json:"provisional,omitempty"`
	Final       time.Time           `json:"final"`
	Warnings    []warningRecord     `json:"warnings,omitempty"`
}

type lineRecord struct {
	ID     string              `json:"id"`
	Status string              `json:"status"`
	Reason string              `json:"reason,omitempty"`
	Net    decimal.Decimal     `json:"net"`
	Tax    decimal.NullDecimal `json:"tax"`
	Taxes  []taxRecord         `json:"taxes,omitempty"`
}

type taxRecord struct {
	Where   whereRecord     `json:"where"`
	Name    string          `json:"name"`
	Kind    string          `json:"kind"`
	Rate    decimal.Decimal `json:"rate"`
	Taxable decimal.Decimal `json:"taxable"`
	Amount  decimal.Decimal `json:"amount"`
	Source  string          `json:"source"`
}

type sumRecord struct {
	Where   whereRecord     `json:"where"`
	Name    string          `json:"name"`
	Kind    string          `json:"kind"`
	Rate    decimal.Decimal `json:"rate"`
	Taxable decimal.Decimal `json:"taxable"`
	Amount  decimal.Decimal `json:"amount"`
}

type whereRecord struct {
	Country string `json:"country"`
	State   string `json:"state,omitempty"`
	Name    string `json:"name"`
	Level   string `json:"level"`
}

type warningRecord struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

func encodeRecord(r *record) ([]byte, error) { return json.Marshal(r) }

func decodeRecord(of *book.Record) (*record, error) {
	r := new(record)
	d := json.NewDecoder(bytes.NewReader(of.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("it is no record of version %d: %w", of.Version, err)
	}
	if r.Reference == "" || r.Voided == (r.Result != nil) {
		return nil, errors.New("it is neither of a document that was finalised nor of one that was voided")
	}
	return r, nil
}

func recordOf(r *tax.Result) *resultRecord {
	out := &resultRecord{Reference: r.Reference, Kind: r.Kind, Currency: r.Currency, Status: r.Status, Reason: r.Reason, Net: r.Net, Tax: r.Tax,
		Gross: r.Gross, Notes: r.Notes, Source: r.Source, Data: r.Data, Provisional: r.Provisional, Final: r.Final}
	for i := range r.Lines {
		l := &r.Lines[i]
		line := lineRecord{ID: l.ID, Status: l.Status, Reason: l.Reason, Net: l.Net, Tax: l.Tax}
		for _, t := range l.Taxes {
			line.Taxes = append(line.Taxes, taxRecord{whereRecord(t.Jurisdiction), t.Name, t.Kind, t.Rate, t.Taxable, t.Amount, t.Source})
		}
		out.Lines = append(out.Lines, line)
	}
	for _, s := range r.Summary {
		out.Summary = append(out.Summary, sumRecord{whereRecord(s.Jurisdiction), s.Name, s.Kind, s.Rate, s.Taxable, s.Amount})
	}
	for _, w := range r.Warnings {
		out.Warnings = append(out.Warnings, warningRecord(w))
	}
	return out
}

func (r *resultRecord) result() *tax.Result {
	out := &tax.Result{Reference: r.Reference, Kind: r.Kind, Currency: r.Currency, Status: r.Status, Reason: r.Reason, Net: r.Net, Tax: r.Tax,
		Gross: r.Gross, Notes: r.Notes, Source: r.Source, Data: r.Data, Provisional: r.Provisional, Final: r.Final}
	for i := range r.Lines {
		l := &r.Lines[i]
		line := tax.LineResult{ID: l.ID, Status: l.Status, Reason: l.Reason, Net: l.Net, Tax: l.Tax}
		for _, t := range l.Taxes {
			line.Taxes = append(line.Taxes, tax.Tax{Jurisdiction: tax.Jurisdiction(t.Where), Name: t.Name, Kind: t.Kind, Rate: t.Rate,
				Taxable: t.Taxable, Amount: t.Amount, Source: t.Source})
		}
		out.Lines = append(out.Lines, line)
	}
	for _, s := range r.Summary {
		out.Summary = append(out.Summary, tax.TaxSum{Jurisdiction: tax.Jurisdiction(s.Where), Name: s.Name, Kind: s.Kind, Rate: s.Rate,
			Taxable: s.Taxable, Amount: s.Amount})
	}
	for _, w := range r.Warnings {
		out.Warnings = append(out.Warnings, sdk.Warning(w))
	}
	return out
}
