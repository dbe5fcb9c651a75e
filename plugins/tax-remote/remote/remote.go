// Package remote is a tax engine that asks another one on the far side of a line.
//
// It owns the client's half of the protocol in openapi.yaml: what is asked, what an answer has
// to be to be taken for one, and what each failure on the way means. It refuses to know any tax,
// and who stands in while the line is cut: that is for the host. Its invariant: class
// Unavailable says that nothing was done, and an amount is never changed on the way.
package remote

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Version of the plugin.
const Version = "1.0.0"

// Where a result is from.
const (
	live   = "live"
	cached = "cached"
)

// Limits of what is known of the other side.
const (
	aboutAge     = time.Hour        // after which its description is asked for again
	aboutPause   = 30 * time.Second // after it could not be had
	aboutTimeout = 3 * time.Second  // a host that asks what there is does not wait long for a line that is cut
)

// operations are what the protocol has. Of those that leave a mark the description says Buys.
var operations = []sdk.Operation{
	{Name: tax.OpEstimate}, {Name: tax.OpFinalise, Buys: true}, {Name: tax.OpAdjust, Buys: true}, {Name: tax.OpVoid, Buys: true},
	{Name: tax.OpGetByReference}, {Name: tax.OpValidateTaxID},
}

// Engine is the tax engine. Its zero value is of no use; see New.
type Engine struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.RWMutex // of what Configure sets, once
	client *client      // nil: not configured yet
	cache  *cache       // nil: nothing is kept

	asking sync.Mutex       // guards the two below
	about  *tax.Description // of the other side; nil: it was not reached yet
	next   time.Time        // when it is asked for again
}

var _ tax.Engine = (*Engine)(nil)

// New makes an engine.
func New(log *slog.Logger) *Engine { return &Engine{log: log, now: time.Now} }

// Describe implements tax.Engine. What the other side can do is known once it was reached.
func (e *Engine) Describe(ctx context.Context) (*tax.Description, error) {
	d := &tax.Description{}
	d.Name, d.Version, d.Config = "remote", Version, slices.Clone(settings)
	about := e.known(ctx)
	if about == nil {
		d.Operations = slices.Clone(operations)
		return d, nil
	}
	for _, o := range operations {
		if slices.ContainsFunc(about.Operations, func(theirs sdk.Operation) bool { return theirs.Name == o.Name }) {
			d.Operations = append(d.Operations, o)
		}
	}
	d.Data, d.Covers = about.Data, slices.Clone(about.Covers)
	return d, nil
}

// known gives the description of the other side as it was when last reached.
func (e *Engine) known(ctx context.Context) *tax.Description {
	client, _, err := e.configured()
	if err != nil {
		return nil
	}
	e.asking.Lock()
	defer e.asking.Unlock()
	if e.now().Before(e.next) {
		return e.about
	}
	ctx, cancel := context.WithTimeout(ctx, aboutTimeout)
	defer cancel()
	about, err := ask(ctx, client, &call{op: opDescribe}, checkDescription)
	if err != nil {
		e.log.Warn("the other side does not say what it can do", "err", err)
		e.next = e.now().Add(aboutPause)
		return e.about
	}
	e.about, e.next = about, e.now().Add(aboutAge)
	return about
}

// configured gives what Configure made.
func (e *Engine) configured() (*client, *cache, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.client == nil {
		return nil, nil, sdk.Errorf(sdk.Unavailable, "the plugin is not configured, and nothing was sent")
	}
	return e.client, e.cache, nil
}

// Estimate implements tax.Engine.
func (e *Engine) Estimate(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	client, cache, err := e.configured()
	if err != nil {
		return nil, err
	}
	if r := cache.find(d); r != nil {
		return r, nil
	}
	r, err := ask(ctx, client, &call{op: tax.OpEstimate, body: d, field: "lines"}, func(r *tax.Result) error { return checkEstimate(d, r) })
	if err != nil {
		return nil, err
	}
	r.Source = live
	cache.keep(d, r)
	return r, nil
}

// Finalise implements tax.Engine.
func (e *Engine) Finalise(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	return e.settle(ctx, tax.OpFinalise, d)
}

// Adjust implements tax.Engine.
func (e *Engine) Adjust(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	return e.settle(ctx, tax.OpAdjust, d)
}

// settle has a document calculated for good.
func (e *Engine) settle(ctx context.Context, op string, d *tax.Document) (*tax.Result, error) {
	client, _, err := e.configured()
	if err != nil {
		return nil, err
	}
	if err := checkReference(d.Reference); err != nil {
		return nil, err
	}
	r, err := ask(ctx, client, &call{op: op, marks: true, body: d, field: "lines"}, func(r *tax.Result) error { return checkSettled(d, r) })
	if err != nil {
		return nil, err
	}
	r.Source = live
	return r, nil
}

// Void implements tax.Engine.
func (e *Engine) Void(ctx context.Context, r *tax.VoidRequest) (*tax.Voided, error) {
	client, _, err := e.configured()
	if err != nil {
		return nil, err
	}
	if err := checkReference(r.Reference); err != nil {
		return nil, err
	}
	return ask(ctx, client, &call{op: tax.OpVoid, marks: true, body: r, field: "reference"}, func(v *tax.Voided) error {
		return same("reference", v.Reference, r.Reference)
	})
}

// GetByReference implements tax.Engine.
func (e *Engine) GetByReference(ctx context.Context, reference string) (*tax.Result, error) {
	client, _, err := e.configured()
	if err != nil {
		return nil, err
	}
	if err := checkReference(reference); err != nil {
		return nil, err
	}
	r, err := ask(ctx, client, &call{op: tax.OpGetByReference, body: &byReference{reference}, field: "reference"}, func(r *tax.Result) error {
		return checkFound(reference, r)
	})
	if err != nil {
		return nil, err
	}
	r.Source = live
	return r, nil
}

// byReference is what get-by-reference is asked with.
type byReference struct {
	Reference string `json:"reference"`
}

// ValidateTaxID implements tax.Engine.
func (e *Engine) ValidateTaxID(ctx context.Context, id *sdk.TaxID) (*tax.TaxIDAdvice, error) {
	client, _, err := e.configured()
	if err != nil {
		return nil, err
	}
	return ask(ctx, client, &call{op: tax.OpValidateTaxID, body: id, field: "number"}, checkAdvice)
}

func checkReference(reference string) error {
	if reference == "" {
		return sdk.Errorf(sdk.Validation, "the reference is missing").At("reference")
	}
	return nil
}
