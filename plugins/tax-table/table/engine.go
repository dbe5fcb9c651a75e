// Package table is a tax engine that works from tables alone, without any network.
//
// It owns the tables (rates by country, category and date, each with the publication that it
// was read from), the rules that choose among them, and what was finalised with them. It
// refuses to guess: what its tables do not say is not calculated, with the reason, and never
// zero. Its invariant: net and tax of a document add up to its gross, to the cent, and what
// was finalised is on disk before it is answered.
package table

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/tax-table/taxid"
)

// Version of the plugin.
const Version = "1.0.0"

// The settings.
const (
	settingTables   = "tables"
	settingState    = "state"
	settingRounding = "rounding"
	settingDistance = "distance_sales"
)

// Where distance sales within the common market are taxed.
const (
	atDestination = "destination"
	atOrigin      = "origin"
)

var settings = []sdk.Setting{
	{Name: settingTables, Help: "directory of *.yaml files with tables that take the place of the shipped ones, by country"},
	{Name: settingState, Help: "directory that keeps what was finalised; without it documents can only be estimated"},
	{Name: settingRounding, Help: "line or document; empty: as each country's table says"},
	{Name: settingDistance, Help: "destination or origin: where sales to consumers in other member states of the EU are taxed; origin is for sellers below the threshold of Article 59c; empty: destination"},
}

// Engine is the tax engine. Its zero value is of no use; see New.
type Engine struct {
	log  *slog.Logger
	now  func() time.Time
	open func(path string) (book.File, error) // nil: on the disk
	exit func(code int)                       // nil: os.Exit

	mu     sync.RWMutex // of what Configure sets
	tables *Tables
	ledger *ledger // nil: no state setting
	round  string
	origin bool

	writing sync.Mutex // one document is finalised at a time
}

var _ tax.Engine = (*Engine)(nil)

// New makes an engine with the shipped tables.
func New(log *slog.Logger) (*Engine, error) {
	tables, err := Load("")
	if err != nil {
		return nil, err
	}
	return &Engine{log: log, now: time.Now, tables: tables}, nil
}

// Close lets go of the state directory.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ledger == nil {
		return nil
	}
	err := e.ledger.close()
	e.ledger = nil
	return err
}

// Describe implements tax.Engine.
func (e *Engine) Describe(context.Context) (*tax.Description, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	d := &tax.Description{Covers: e.tables.coverage()}
	d.Name, d.Version, d.Data = "table", Version, e.tables.Version()
	d.Operations = []sdk.Operation{{Name: tax.OpEstimate, Offline: true}, {Name: tax.OpValidateTaxID, Offline: true}}
	if e.ledger != nil {
		d.Operations = append(d.Operations, sdk.Operation{Name: tax.OpFinalise, Offline: true, Buys: true}, sdk.Operation{Name: tax.OpAdjust, Offline: true, Buys: true},
			sdk.Operation{Name: tax.OpVoid, Offline: true, Buys: true}, sdk.Operation{Name: tax.OpGetByReference, Offline: true})
	}
	d.Config = slices.Clone(settings)
	return d, nil
}

// Configure implements tax.Engine.
func (e *Engine) Configure(_ context.Context, s sdk.Settings) error {
	for name, value := range s {
		known := slices.ContainsFunc(settings, func(k sdk.Setting) bool { return k.Name == name })
		if !known {
			return sdk.Errorf(sdk.Validation, "there is no setting %q", name).At(name)
		}
		allowed := map[string][]string{settingRounding: {"", roundLine, roundDocument}, settingDistance: {"", atDestination, atOrigin}}[name]
		if allowed != nil && !slices.Contains(allowed, value) {
			return sdk.Errorf(sdk.Validation, "%q is none of %q", value, allowed[1:]).At(name)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ledger != nil {
		return sdk.Errorf(sdk.Conflict, "the plugin is configured already").Suggest("start it anew")
	}
	tables := e.tables
	if dir := s[settingTables]; dir != "" {
		var err error
		if tables, err = Load(dir); err != nil {
			return sdk.Errorf(sdk.Validation, "%v", err).At(settingTables)
		}
	}
	if dir := s[settingState]; dir != "" {
		l, err := openLedger(book.Config{Dir: dir, Name: bookName, Kind: "tax-table", Version: recordVersion, Setting: settingState, Log: e.log,
			OpenFile: e.open, Exit: e.exit})
		if err != nil {
			return err
		}
		e.ledger = l
	}
	e.tables, e.round, e.origin = tables, s[settingRounding], s[settingDistance] == atOrigin
	return nil
}

// Estimate implements tax.Engine.
func (e *Engine) Estimate(_ context.Context, d *tax.Document) (*tax.Result, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if err := check(d); err != nil {
		return nil, err
	}
	result, _, err := e.calculate(d, false)
	return result, err
}

// Finalise implements tax.Engine. A document that cannot be calculated is answered so and is
// not kept: it can be finalised when the tables know more.
func (e *Engine) Finalise(_ context.Context, d *tax.Document) (*tax.Result, error) {
	return e.keep(d, func(before *entry, sum string) (*tax.Result, error) {
		switch {
		case before == nil:
			return nil, nil
		case before.Voided:
			return nil, sdk.Errorf(sdk.Conflict, "%q was voided", d.Reference).At("reference").Suggest("give the document a new reference")
		case before.Sum != sum:
			return nil, sdk.Errorf(sdk.Duplicate, "%q was finalised with other contents", d.Reference).At("reference").
				Suggest("adjust it, or give the document a new reference")
		}
		return e.ledger.result(before)
	})
}

// Adjust implements tax.Engine.
func (e *Engine) Adjust(_ context.Context, d *tax.Document) (*tax.Result, error) {
	return e.keep(d, func(before *entry, sum string) (*tax.Result, error) {
		switch {
		case before == nil:
			return nil, sdk.Errorf(sdk.NotFound, "nothing is finalised under %q", d.Reference).At("reference")
		case before.Voided:
			return nil, sdk.Errorf(sdk.Conflict, "%q was voided", d.Reference).At("reference")
		case before.Sum != sum:
			return nil, nil
		}
		return e.ledger.result(before)
	})
}

// keep calculates a document for good, unless what was done before under its reference is the
// answer.
func (e *Engine) keep(d *tax.Document, answered func(before *entry, sum string) (*tax.Result, error)) (*tax.Result, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if err := e.needBook(); err != nil {
		return nil, err
	}
	if err := check(d); err != nil {
		return nil, err
	}
	if err := checkReference(d.Reference); err != nil {
		return nil, err
	}
	sum, err := d.Digest()
	if err != nil {
		return nil, err
	}
	e.writing.Lock()
	defer e.writing.Unlock()
	before, err := e.ledger.find(d.Reference)
	if err != nil {
		return nil, err
	}
	if result, err := answered(before, sum); result != nil || err != nil {
		return result, err
	}
	result, taxPoint, err := e.calculate(d, true)
	if err != nil {
		return nil, err
	}
	if result.Status != tax.Calculated {
		return result, nil
	}
	result.Final, result.Kind = e.now().UTC().Round(0), tax.ResultInvoice
	if d.Kind == tax.Return {
		result.Kind = tax.ResultCredit
	}
	r := &record{Reference: d.Reference, Sum: sum, TaxPoint: taxPoint, Result: recordOf(result)}
	if err := e.ledger.append(r); err != nil {
		return nil, err
	}
	return result, nil
}

// Void implements tax.Engine.
func (e *Engine) Void(_ context.Context, r *tax.VoidRequest) (*tax.Voided, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if err := e.needBook(); err != nil {
		return nil, err
	}
	e.writing.Lock()
	defer e.writing.Unlock()
	before, err := e.ledger.find(r.Reference)
	switch {
	case err != nil:
		return nil, err
	case before == nil:
		return nil, sdk.Errorf(sdk.NotFound, "nothing is finalised under %q", r.Reference).At("reference")
	}
	if !before.Voided {
		if err := e.ledger.append(&record{Reference: r.Reference, Voided: true, Reason: r.Reason}); err != nil {
			return nil, err
		}
	}
	return &tax.Voided{Reference: r.Reference}, nil
}

// GetByReference implements tax.Engine. What was voided says so: that nothing is found means
// that nothing was ever done.
func (e *Engine) GetByReference(_ context.Context, reference string) (*tax.Result, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if err := e.needBook(); err != nil {
		return nil, err
	}
	found, err := e.ledger.find(reference)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, sdk.Errorf(sdk.NotFound, "nothing is finalised under %q", reference).At("reference")
	}
	return e.ledger.result(found)
}

// ValidateTaxID implements tax.Engine. It asks no registry: a number that is well formed may
// be nobody's.
func (e *Engine) ValidateTaxID(_ context.Context, id *sdk.TaxID) (*tax.TaxIDAdvice, error) {
	if id.Number == "" {
		return nil, sdk.Errorf(sdk.Validation, "the number is missing").At("number")
	}
	v := taxid.Check(id.Country, id.Kind, id.Number)
	status := map[taxid.Status]string{taxid.Valid: tax.IDValid, taxid.Invalid: tax.IDInvalid, taxid.Unknown: tax.IDUnknown}[v.Status]
	return &tax.TaxIDAdvice{
		ID:     sdk.TaxID{Country: v.Country, Kind: id.Kind, Number: v.Number},
		Status: status, Checked: v.Checked, Message: v.Message,
	}, nil
}

func (e *Engine) needBook() error {
	if e.ledger == nil {
		return sdk.Errorf(sdk.NotSupported, "documents are not kept: the state setting is empty").Suggest("set state to a directory")
	}
	return nil
}
