// Package tax is the contract of a tax engine: what a document of sale owes to whom.
//
// It owns the interface, its types and how they travel between host and plugin, and refuses
// to know any country's rules. Its invariant: what was not calculated says so, and is never
// zero.
package tax

import (
	"context"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Engine calculates taxes. Calls may come at the same time. Errors are *sdk.Error; an engine
// that lacks an operation answers class NotSupported. That an engine knows no rate for a line
// is no error: the line is NotCalculated, and says why.
//
// A Finalise, Adjust or Void that ends with UnknownOutcome is never looked for but repeated,
// under the same reference and with the same contents: that is the same thing and not a second
// one, also after the plugin was started anew.
type Engine interface {
	// Describe can be asked before Configure, for the name and the settings; what depends on
	// those, such as tables, is described afterwards.
	Describe(ctx context.Context) (*Description, error)
	// Configure comes first, once. An error names the setting.
	Configure(ctx context.Context, s sdk.Settings) error

	// Estimate calculates and leaves nothing behind.
	Estimate(ctx context.Context, d *Document) (*Result, error)
	// Finalise calculates what is owed for good, once for each reference: the same document
	// again has the same answer, with other contents it is an error of class Duplicate, and
	// after it was voided of class Conflict.
	Finalise(ctx context.Context, d *Document) (*Result, error)
	// Adjust replaces what was finalised under the document's reference. The same document
	// again has the same answer.
	Adjust(ctx context.Context, d *Document) (*Result, error)
	// Void takes back what was finalised. Twice is once.
	Void(ctx context.Context, r *VoidRequest) (*Voided, error)
	// GetByReference finds what was finalised, and tells whether it was voided. Class NotFound:
	// surely nothing.
	GetByReference(ctx context.Context, reference string) (*Result, error)

	ValidateTaxID(ctx context.Context, id *sdk.TaxID) (*TaxIDAdvice, error)
}

// The operations, as Description.Operations and the site's API name them.
const (
	OpEstimate       = "estimate"
	OpFinalise       = "finalise"
	OpAdjust         = "adjust"
	OpVoid           = "void"
	OpGetByReference = "get-by-reference"
	OpValidateTaxID  = "validate-tax-id"
)
