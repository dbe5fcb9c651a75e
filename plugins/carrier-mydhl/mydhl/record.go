package mydhl

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// recordVersion is of begun, sold and picked, as this program writes them.
const recordVersion = 1

// begun is an order that is about to be sent, with what it is looked for by. Of a collection it
// has no more than the date and the account.
type begun struct {
	Mark    string   `json:"mark,omitempty"` // the reference as the provider has it
	Product string   `json:"product,omitempty"`
	Date    string   `json:"date,omitempty"`
	Back    bool     `json:"back,omitempty"`
	Customs bool     `json:"customs,omitempty"`
	Account string   `json:"account,omitempty"`
	Parcels []string `json:"parcels,omitempty"` // the caller's references
	Weight  string   `json:"weight,omitempty"`  // of all, in kilograms
}

// sold is a shipment that exists at the provider.
type sold struct {
	Shipment  string     `json:"shipment"`
	Product   string     `json:"product,omitempty"`
	Weight    string     `json:"weight,omitempty"` // of all parcels, in kilograms
	Tracking  []string   `json:"tracking"`         // in the order of the parcels
	Labels    []int      `json:"labels"`           // of each parcel, in Documents; -1: none of its own
	Documents []document `json:"documents,omitempty"`
	Price     *price     `json:"price,omitempty"`
	Warnings  []note     `json:"warnings,omitempty"`
}

type document struct {
	Kind   string `json:"kind"`
	Format string `json:"format"`
	Data   []byte `json:"data"`
}

type price struct {
	Currency string   `json:"currency"`
	Total    number   `json:"total"`
	Charges  []charge `json:"charges"`
}

type charge struct {
	Kind   string `json:"kind"`
	Code   string `json:"code,omitempty"`
	Name   string `json:"name,omitempty"`
	Amount number `json:"amount"`
}

type note struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// picked is a collection that exists at the provider.
type picked struct {
	Confirmation string `json:"confirmation"`
	Date         string `json:"date"`
	Ready        string `json:"ready"`
	Close        string `json:"close"`
	Warnings     []note `json:"warnings,omitempty"`
}

// ordered is what a collection needs to know of a shipment that was ordered here.
type ordered struct{ shipment, product, weight string }

// record is what was ordered: the provider cannot be asked for it at once, and never for a
// label again.
type record struct {
	*purchases.Record

	mu       sync.Mutex
	tracking map[string]ordered // by the numbers of parcels and of shipments
}

func openRecord(dir string, keep time.Duration, log *slog.Logger, now func() time.Time) (*record, error) {
	r := &record{}
	var err error
	r.Record, err = purchases.Open(purchases.Config{Dir: dir, Name: "orders", Kind: "carrier-mydhl", Version: recordVersion, Setting: setState, Log: log, Now: now,
		Keep: func(string) time.Duration { return keep }, Index: r.index})
	return r, err
}

func (r *record) index() func(*purchases.Line, purchases.State) error {
	r.tracking = map[string]ordered{}
	return func(l *purchases.Line, _ purchases.State) error {
		if l.Phase != purchases.Done || !strings.HasPrefix(l.Key, shipKey("")) {
			return nil
		}
		var made sold
		if err := json.Unmarshal(l.Body, &made); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, n := range append([]string{made.Shipment}, made.Tracking...) {
			r.tracking[n] = ordered{made.Shipment, made.Product, made.Weight}
		}
		return nil
	}
}

// ofTracking gives the shipment that has a number.
func (r *record) ofTracking(number string) (ordered, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, found := r.tracking[number]
	return k, found
}

func shipKey(reference string) string      { return "ship:" + reference }
func pickupKey(reference string) string    { return "pickup:" + reference }
func cancelKey(confirmation string) string { return "cancel:" + confirmation }

// lost is the error for an order whose answer was lost, and of which nobody can tell more.
func lost(what string, since time.Time) *sdk.Error {
	return sdk.Errorf(sdk.UnknownOutcome, "%s was sent to DHL on %s, and its answer was lost", what, since.UTC().Format(time.DateTime)).
		Suggest(fmt.Sprintf("ask DHL whether it has it; if not, order it under another reference; see also the setting %s", setSettle))
}
