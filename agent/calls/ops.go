package calls

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/strictjson"
)

// operation is what can be asked of a kind of plugin. One that neither is bought nor waits
// leaves nothing behind.
type operation struct {
	name   string
	keyed  bool // an idempotency key has to be there
	bought bool // looked for before it is done again
	waits  bool // idempotent under its reference: done when the line is back
	stands bool // another tax engine can answer for now

	read func(body []byte) (request any, err error)
	// reread reads what was accepted before, maybe by another version.
	reread func(body []byte) (request any, err error)
	// ask is given the plugin and the request.
	ask func(ctx context.Context, at, request any) (any, error)
}

// byReference is what get-by-reference is asked with.
type byReference struct {
	Reference string `json:"reference"`
}

var carriers = operations([]operation{
	of(operation{name: carrier.OpValidateAddress}, carrier.Carrier.ValidateAddress),
	of(operation{name: carrier.OpRate}, carrier.Carrier.Rate),
	of(operation{name: carrier.OpShip, keyed: true, bought: true}, carrier.Carrier.Ship),
	of(operation{name: carrier.OpShipReturn, keyed: true, bought: true}, carrier.Carrier.ShipReturn),
	of(operation{name: carrier.OpGetByReference}, func(c carrier.Carrier, ctx context.Context, r *byReference) (*carrier.Shipped, error) {
		return c.GetByReference(ctx, r.Reference)
	}),
	of(operation{name: carrier.OpVoid, keyed: true, waits: true}, carrier.Carrier.Void),
	of(operation{name: carrier.OpPickup, keyed: true, waits: true}, carrier.Carrier.Pickup),
	of(operation{name: carrier.OpManifest, keyed: true, waits: true}, carrier.Carrier.Manifest),
	of(operation{name: carrier.OpTrack}, carrier.Carrier.Track),
})

var taxes = operations([]operation{
	of(operation{name: tax.OpEstimate, stands: true}, tax.Engine.Estimate),
	of(operation{name: tax.OpFinalise, keyed: true, waits: true, stands: true}, tax.Engine.Finalise),
	of(operation{name: tax.OpAdjust, keyed: true, waits: true, stands: true}, tax.Engine.Adjust),
	of(operation{name: tax.OpVoid, keyed: true, waits: true}, tax.Engine.Void),
	of(operation{name: tax.OpGetByReference}, func(e tax.Engine, ctx context.Context, r *byReference) (*tax.Result, error) {
		return e.GetByReference(ctx, r.Reference)
	}),
	of(operation{name: tax.OpValidateTaxID, stands: true}, tax.Engine.ValidateTaxID),
})

func operations(list []operation) map[string]*operation {
	out := map[string]*operation{}
	for i := range list {
		out[list[i].name] = &list[i]
	}
	return out
}

// find gives an operation of a kind.
func find(kind, name string) (*operation, error) {
	table := map[string]map[string]*operation{carrier.Kind: carriers, tax.Kind: taxes}[kind]
	if op := table[name]; op != nil {
		return op, nil
	}
	return nil, refuse(NoSuch, "there is no operation %q of a %s", name, kind)
}

// of completes an operation with the method that does it.
func of[Plugin, In, Out any](op operation, do func(Plugin, context.Context, *In) (*Out, error)) operation {
	op.read = func(body []byte) (any, error) {
		in := new(In)
		if err := sdk.ReadJSON(body, in); err != nil {
			e := refuse(Invalid, "%v", err)
			e.Field = sdk.AsError(err).Field
			return nil, e
		}
		return in, nil
	}
	op.reread = func(body []byte) (any, error) {
		in := new(In)
		return in, json.Unmarshal(body, in)
	}
	op.ask = func(ctx context.Context, at, request any) (any, error) {
		out, err := do(at.(Plugin), ctx, request.(*In))
		if err != nil {
			return nil, err
		}
		if out == nil { // of a plugin in this process; the wire sees to it otherwise
			return nil, sdk.Errorf(sdk.Internal, "the plugin gave neither an error nor a result")
		}
		return out, nil
	}
	return op
}

// digest is the same for requests that say the same, however they are written, and for later
// versions of this program, whose types may have more fields.
func digest(kind, plugin, operation string, body []byte) (string, error) {
	value, ok := strictjson.Decode(body, maxDepth)
	if !ok {
		return "", refuse(Invalid, "the request is no JSON that is taken here: UTF-8, no member twice, at most %d levels deep", maxDepth)
	}
	text, err := json.Marshal([]any{kind, plugin, operation, value})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// referenceOf gives what a request is found by later; empty: it has none.
func referenceOf(request any) string {
	switch r := request.(type) {
	case *carrier.Shipment:
		return r.Reference
	case *carrier.VoidRequest:
		return r.Reference
	case *carrier.PickupRequest:
		return r.Reference
	case *carrier.ManifestRequest:
		return r.Reference
	case *tax.Document:
		return r.Reference
	case *tax.VoidRequest:
		return r.Reference
	case *byReference:
		return r.Reference
	}
	return ""
}

// doubtful says that a call that ended so may have been done. A fault of the plugin proves
// nothing about what it did before.
func doubtful(class sdk.Class) bool { return class == sdk.UnknownOutcome || class == sdk.Internal }

// passing says that a call was surely not done, and that the same may be done later.
func passing(class sdk.Class) bool {
	return class == sdk.Unavailable || class == sdk.Throttled || class == sdk.Auth
}
