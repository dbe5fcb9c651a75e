package described

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// Version is of this program.
const Version = "1"

const (
	standardKeep = 800 // days
	leastKeep    = 400
)

// Carrier is an account at a described provider.
type Carrier struct {
	d   *Description
	log *slog.Logger
	now func() time.Time

	mu      sync.RWMutex // of all below; they are set once
	client  *client
	record  *purchases.Record // nil: nothing leaves a mark
	visible map[string]any
}

var _ carrier.Carrier = (*Carrier)(nil)

// New makes a carrier of a description. It has to be configured.
func New(d *Description, log *slog.Logger) *Carrier {
	return &Carrier{d: d, log: log, now: time.Now}
}

// Describe tells what the file says.
func (c *Carrier) Describe(context.Context) (*carrier.Description, error) { return c.d.describe(), nil }

// Configure takes the settings and opens the record.
func (c *Carrier) Configure(_ context.Context, s sdk.Settings) error {
	if err := c.checkSettings(s); err != nil {
		return err
	}
	base, proxy := c.d.base, (*url.URL)(nil)
	var err error
	if text := s[setBase]; text != "" {
		if base, err = baseOf(text); err != nil {
			return sdk.Errorf(sdk.Validation, "%v", err).At(setBase)
		}
	}
	if text := s[setProxy]; text != "" {
		if proxy, err = url.Parse(text); err != nil || proxy.Host == "" {
			return sdk.Errorf(sdk.Validation, "it is no address such as http://proxy.example:3128").At(setProxy)
		}
	}
	keep := standardKeep
	if text := s[setKeep]; text != "" {
		if keep, err = strconv.Atoi(text); err != nil || keep < leastKeep || keep > 100_000 {
			return sdk.Errorf(sdk.Validation, "%.20q is no number of days from %d on", text, leastKeep).At(setKeep)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return sdk.Errorf(sdk.Conflict, "it is configured already")
	}
	if c.d.buys() {
		if c.record, err = openRecord(s[setState], time.Duration(keep)*24*time.Hour, c.log, c.now); err != nil {
			return err
		}
	}
	c.client = newClient(base, proxy, c.d.auth, s, c.log, c.now)
	c.visible = c.d.visible(s)
	return nil
}

func (c *Carrier) checkSettings(s sdk.Settings) error {
	var names []string
	for _, setting := range c.d.describe().Config {
		names = append(names, setting.Name)
		if setting.Required && s[setting.Name] == "" {
			return sdk.Errorf(sdk.Validation, "the setting is missing").At(setting.Name).Suggest(setting.Help)
		}
	}
	for name := range s {
		if !slices.Contains(names, name) {
			return sdk.Errorf(sdk.Validation, "carrier %s has no such setting; %s", c.d.name, strictyaml.Instead(name, names)).At(name)
		}
	}
	return nil
}

// Close ends the carrier.
func (c *Carrier) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		c.client.close()
	}
	if c.record != nil {
		return c.record.Close()
	}
	return nil
}

// operation gives a described one, when it can be called.
func (c *Carrier) operation(name string) (*operation, error) {
	o := c.d.operations[name]
	if o == nil {
		return nil, sdk.Errorf(sdk.NotSupported, "carrier %s has no %s", c.d.name, name)
	}
	return o, c.ready()
}

func (c *Carrier) ready() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.client == nil {
		return sdk.Errorf(sdk.Internal, "it is not configured")
	}
	return nil
}

// exchange is a call of an operation with what is asked, and more that expressions may see.
func (c *Carrier) exchange(o *operation, asked any, more map[string]any) (*exchange, error) {
	input, err := asInput(asked)
	if err != nil {
		return nil, sdk.Errorf(sdk.Validation, "the request cannot be written as JSON: %v", err).At(o.standardField())
	}
	input["settings"] = c.visible
	for name, value := range more {
		input[name] = value
	}
	return &exchange{c: c.client, o: o, input: input}, nil
}

// Rate asks for prices.
func (c *Carrier) Rate(ctx context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	o, err := c.operation(carrier.OpRate)
	if err != nil {
		return nil, err
	}
	asked, err := c.shipment(o, s)
	if err != nil {
		return nil, err
	}
	x, err := c.exchange(o, asked, nil)
	if err != nil {
		return nil, err
	}
	m, err := x.run(ctx)
	if err != nil {
		return nil, err
	}
	return c.rates(x, s, m)
}

// ValidateAddress asks what the provider thinks of an address.
func (c *Carrier) ValidateAddress(ctx context.Context, a *sdk.Address) (*carrier.AddressAdvice, error) {
	o, err := c.operation(carrier.OpValidateAddress)
	if err != nil {
		return nil, err
	}
	if a == nil || a.Country == "" {
		return nil, sdk.Errorf(sdk.Validation, "the country is missing").At("country")
	}
	x, err := c.exchange(o, a, nil)
	if err != nil {
		return nil, err
	}
	m, err := x.run(ctx)
	if err != nil {
		return nil, err
	}
	setDefault(m, "confidence", "format")
	return readInto[carrier.AddressAdvice](x, m)
}

// shipment looks at what the contract says of every shipment, and fills in what is left to the
// carrier.
func (c *Carrier) shipment(o *operation, s *carrier.Shipment) (*carrier.Shipment, error) {
	if s == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipment")
	}
	if err := o.checkParcels(s.Parcels); err != nil {
		return nil, err
	}
	if err := o.checkTaken(s); err != nil {
		return nil, err
	}
	out := *s
	switch _, err := time.Parse(time.DateOnly, s.Date); {
	case s.Date == "" && !o.ships():
		out.Date = c.now().Format(time.DateOnly)
	case err != nil:
		return nil, sdk.Errorf(sdk.Validation, "%.20q is no date such as 2026-05-04", s.Date).At("date")
	}
	if out.Service == "" && o.ships() && len(c.d.services) == 1 {
		out.Service = c.d.services[0].Code
	}
	known := slices.ContainsFunc(c.d.services, func(v carrier.Service) bool { return v.Code == out.Service })
	if !known && (out.Service != "" || o.ships() && s.RateID == "") {
		return nil, sdk.Errorf(sdk.Validation, "carrier %s has no service %.20q", c.d.name, out.Service).At("service").Suggest("ask for rates and take the service of one")
	}
	if out.Label == "" && len(c.d.labels) > 0 {
		out.Label = c.d.labels[0]
	}
	if out.Label != "" && !slices.Contains(c.d.labels, out.Label) {
		return nil, sdk.Errorf(sdk.NotSupported, "carrier %s makes no labels of format %.20q", c.d.name, out.Label).At("label")
	}
	return &out, nil
}

func (o *operation) checkParcels(parcels []carrier.Parcel) error {
	if len(parcels) == 0 {
		return sdk.Errorf(sdk.Validation, "there is no parcel").At("parcels")
	}
	for i, p := range parcels {
		at := "parcels[" + strconv.Itoa(i) + "]."
		if _, err := p.Weight.In(sdk.Gram); err != nil || !p.Weight.Value.IsPositive() {
			return sdk.Errorf(sdk.Validation, "it is no weight").At(at + "weight")
		}
		if d := p.Dimensions; d != nil {
			if _, err := (sdk.Measure{Value: d.Length, Unit: d.Unit}).In(sdk.Millimetre); err != nil || !d.Length.IsPositive() || !d.Width.IsPositive() || !d.Height.IsPositive() {
				return sdk.Errorf(sdk.Validation, "they are no dimensions").At(at + "dimensions")
			}
		}
		if p.Packaging != "" && p.Packaging != "own" && !slices.Contains(o.takes, "packaging") {
			return o.untaken(at + "packaging")
		}
	}
	return nil
}

// checkTaken refuses what the description does not pass on: it would be left undone in silence.
func (o *operation) checkTaken(s *carrier.Shipment) error {
	for _, f := range []struct {
		name  string
		there bool
	}{{"insurance", s.Insurance != nil}, {"cod", s.COD != nil}, {"payer", s.Payer != nil}, {"labelDpi", s.LabelDPI != 0},
		{"rateId", s.RateID != ""}, {"returnTo", s.ReturnTo != nil}, {"customs", s.Customs != nil}} {
		if f.there && !slices.Contains(o.takes, f.name) {
			return o.untaken(f.name)
		}
	}
	for name := range s.Options {
		if !slices.Contains(o.takes, "options."+name) {
			return o.untaken("options." + name)
		}
	}
	for _, m := range []struct {
		name string
		of   *sdk.Money
	}{{"insurance", s.Insurance}, {"cod", s.COD}} {
		if m.of != nil && (m.of.Amount.IsNegative() || !currency(m.of.Currency)) {
			return sdk.Errorf(sdk.Validation, "it is no such amount").At(m.name)
		}
	}
	if p := s.Payer; p != nil && p.Party != carrier.PayerSender && p.Party != carrier.PayerRecipient && p.Party != carrier.PayerThird {
		return sdk.Errorf(sdk.Validation, "%.20q cannot pay", p.Party).At("payer.party")
	}
	return nil
}

func (o *operation) untaken(field string) error {
	return sdk.Errorf(sdk.NotSupported, "the description of %s does not pass it on", o.name).At(field)
}

// currency tells whether text is a code of ISO 4217 by its form.
func currency(code string) bool {
	for _, r := range code {
		if r < 'A' || r > 'Z' {
			return false
		}
	}
	return len(code) == 3
}
