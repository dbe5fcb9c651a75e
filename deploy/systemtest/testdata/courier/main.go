// Command courier is a carrier whose provider is a test, and under the name live-tax a tax
// engine with the same provider. Under the name babble it never serves anything.
//
// It keeps no book: what was bought is known to the provider alone, which sells as often as it
// is asked. An order with a name of mischief does that; all else is done well.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

func main() {
	log := sdk.Logger()
	switch filepath.Base(os.Args[0]) {
	case "babble":
		for {
			_, _ = os.Stdout.WriteString(strings.Repeat("no handshake ", 100))
		}
	case "live-tax":
		tax.Serve(&engine{provider: provider{client: client()}}, log)
	default:
		carrier.Serve(&courier{provider: provider{client: client()}, raw: os.Stderr}, log)
	}
}

// client makes every request once, on a connection of its own.
func client() http.Client { return http.Client{Transport: &http.Transport{DisableKeepAlives: true}} }

// provider is the other side.
type provider struct {
	client http.Client
	url    string
}

func (p *provider) configure(s sdk.Settings) error {
	if p.url = s["provider"]; p.url == "" {
		return sdk.Errorf(sdk.Validation, "the address of the provider").At("provider")
	}
	return nil
}

func (p *provider) describe(name string, operations ...sdk.Operation) sdk.Description {
	return sdk.Description{Name: name, Version: "1.0.0", Operations: operations,
		Config: []sdk.Setting{{Name: "provider", Help: "address of the provider", Required: true}}}
}

// sale is what the provider answers.
type sale struct {
	Number string
	At     time.Time
}

// ask does something at the provider. Where no connection comes about nothing was done.
func (p *provider) ask(ctx context.Context, what, reference string) (s sale, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/"+what+"?reference="+url.QueryEscape(reference), nil)
	if err != nil {
		return s, err
	}
	answer, err := p.client.Do(request)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return s, sdk.Errorf(sdk.Unavailable, "the provider is away: %v", err)
	case err != nil:
		return s, sdk.Errorf(sdk.UnknownOutcome, "the provider did not answer: %v", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return s, sdk.Errorf(sdk.UnknownOutcome, "the provider broke off: %v", err)
	case answer.StatusCode == http.StatusNotFound:
		return s, sdk.Errorf(sdk.NotFound, "%s", text)
	case answer.StatusCode == http.StatusServiceUnavailable:
		return s, sdk.Errorf(sdk.Unavailable, "%s", text)
	case answer.StatusCode != http.StatusOK:
		return s, sdk.Errorf(sdk.Internal, "%s: %s", answer.Status, text)
	}
	return s, json.Unmarshal(text, &s)
}

type courier struct {
	carrier.Carrier // what it lacks, nobody asks for
	provider
	raw *os.File // standard error, before go-plugin took it
}

func (c *courier) Configure(_ context.Context, s sdk.Settings) error { return c.configure(s) }

func (c *courier) Describe(context.Context) (*carrier.Description, error) {
	return &carrier.Description{Labels: []string{carrier.PDF}, Services: []carrier.Service{{Code: "parcel", Name: "Parcel"}},
		Description: c.describe("courier", sdk.Operation{Name: carrier.OpRate}, sdk.Operation{Name: carrier.OpShip, Buys: true},
			sdk.Operation{Name: carrier.OpGetByReference}, sdk.Operation{Name: carrier.OpVoid, Buys: true})}, nil
}

func (c *courier) Rate(_ context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	switch s.Order {
	case "huge":
		return &carrier.Rates{Rates: slices.Repeat([]carrier.Rate{{Charges: make([]carrier.Charge, 9)}}, 9000)}, nil
	}
	c.obey(s.Order)
	return &carrier.Rates{Rates: []carrier.Rate{{Service: "parcel", Total: sdk.Money{Amount: decimal.New(5, 0), Currency: "EUR"}, Source: "live"}}}, nil
}

// obey does harm.
func (c *courier) obey(order string) {
	switch order {
	case "crash":
		os.Exit(3)
	case "panic":
		go func() { panic("a fault of the courier") }()
		select {}
	case "hang":
		select {}
	case "freeze":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
		select {} // threads stop one after the other
	case "eat":
		for eaten := [][]byte{}; ; {
			eaten = append(eaten, bytes.Repeat([]byte{1}, 8<<20))
			_ = eaten
		}
	case "flood":
		for range 20_000 {
			fmt.Fprintln(c.raw, "raw flood")
			fmt.Println("flood on standard output")
			fmt.Fprintln(os.Stderr, "flood on standard error")
		}
	}
}

// shipped is what a sale comes to, also when it is found again.
func shipped(reference string, s sale) *carrier.Shipped {
	return &carrier.Shipped{Reference: reference, Shipment: s.Number, Service: "parcel", Parcels: []carrier.ShippedParcel{{Tracking: s.Number}},
		Documents: []carrier.Document{{Kind: "label", Format: carrier.PDF, Data: []byte("%PDF-1.7 " + s.Number)}}}
}

func (c *courier) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	sold, err := c.ask(ctx, "ship", s.Reference)
	if err != nil {
		return nil, err
	}
	if s.Order == "mix" {
		return shipped("another", sale{Number: "of-another"}), nil
	}
	return shipped(s.Reference, sold), nil
}

func (c *courier) GetByReference(ctx context.Context, reference string) (*carrier.Shipped, error) {
	sold, err := c.ask(ctx, "find", reference)
	if err != nil {
		return nil, err
	}
	return shipped(reference, sold), nil
}

func (c *courier) Void(ctx context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	if _, err := c.ask(ctx, "void", r.Reference); err != nil {
		return nil, err
	}
	return &carrier.Voided{Reference: r.Reference, Accepted: true}, nil
}

// engine knows one rate, which no table has.
type engine struct {
	tax.Engine // what it lacks, nobody asks for
	provider
}

func (e *engine) Configure(_ context.Context, s sdk.Settings) error { return e.configure(s) }

func (e *engine) Describe(context.Context) (*tax.Description, error) {
	return &tax.Description{Description: e.describe("live-tax", sdk.Operation{Name: tax.OpFinalise, Buys: true})}, nil
}

func (e *engine) Finalise(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	sold, err := e.ask(ctx, "finalise", d.Reference)
	if err != nil {
		return nil, err
	}
	out := &tax.Result{Reference: d.Reference, Kind: tax.ResultInvoice, Currency: d.Currency, Status: tax.Calculated, Source: "live", Final: sold.At}
	known := func(d decimal.Decimal) decimal.NullDecimal { return decimal.NewNullDecimal(d) }
	var net, owed decimal.Decimal
	for _, l := range d.Lines {
		t := l.Amount.Mul(decimal.New(25, -2))
		net, owed = net.Add(l.Amount), owed.Add(t)
		out.Lines = append(out.Lines, tax.LineResult{ID: l.ID, Status: tax.Calculated, Net: known(l.Amount), Tax: known(t)})
	}
	out.Net, out.Tax, out.Gross = known(net), known(owed), known(net.Add(owed))
	return out, nil
}
