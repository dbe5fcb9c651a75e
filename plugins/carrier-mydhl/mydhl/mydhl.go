// Package mydhl is DHL Express through the MyDHL API.
//
// It owns how the contract's words become the provider's and back, and the record of what was
// ordered, since the provider takes no idempotency key. It refuses to know the host, and makes
// no labels of its own. Its invariant: an order leaves only after its reference stands in the
// record on disk, and a reference whose answer was lost is never ordered again.
package mydhl

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// Version of the plugin.
const Version = "1.0.0"

// The settings.
const (
	setBase      = "base-url"
	setUser      = "username"
	setPassword  = "password"
	setAccount   = "account"
	setImport    = "import-account"
	setState     = "state"
	setZone      = "timezone"
	setHandover  = "handover"
	setPaperless = "paperless"
	setProduct   = "pickup-product"
	setProof     = "proof"
	setSettle    = "settle-hours"
	setKeep      = "keep-days"
	setProxy     = "proxy"
)

const (
	production = "https://express.api.dhl.com/mydhlapi"
	handover   = "17:00"
	clock      = "15:04"
	day        = "2006-01-02"
	yes        = "yes"
	no         = "no"
)

var settings = []sdk.Setting{
	{Name: setUser, Required: true, Secret: true, Help: "user name of the MyDHL API"},
	{Name: setPassword, Required: true, Secret: true, Help: "password of the MyDHL API"},
	{Name: setAccount, Required: true, Help: "DHL Express account number that ships and pays"},
	{Name: setState, Required: true, Help: "directory of the record of what was ordered; of this plugin alone, on a local disk, part of the site's backup"},
	{Name: setZone, Required: true, Help: "time zone of the site, such as Europe/Berlin"},
	{Name: setBase, Help: "where the API is; " + production + " when empty, and for trials that address with /test behind it"},
	{Name: setImport, Help: "DHL Express account number that pays for returns; the account when empty"},
	{Name: setHandover, Help: "time of day at which parcels are handed over; " + handover + " when empty"},
	{Name: setPaperless, Help: "yes: the invoice goes to customs electronically (Paperless Trade, needs an agreement); no (when empty)"},
	{Name: setProduct, Help: "product named for a collection of parcels that were not shipped here; P when empty"},
	{Name: setProof, Help: "yes: tracking fetches the proof of delivery of what was delivered; no (when empty)"},
	{Name: setSettle, Help: "hours after which a shipment whose answer was lost, and which DHL's tracking does not know, counts as not ordered; never when empty, and not less than 24"},
	{Name: setKeep, Help: "days for which the record keeps a reference at least; 400 when empty, and not less than 30"},
	{Name: setProxy, Help: "HTTP proxy on the way to DHL, such as http://proxy.example:3128; none when empty"},
}

// Carrier is one account.
type Carrier struct {
	log *slog.Logger
	now func() time.Time

	// Set by Configure and never changed after it.
	client    *client
	record    *record
	account   string
	imports   string
	zone      *time.Location
	handover  time.Duration // after midnight
	paperless bool
	product   string
	proof     bool
	settle    time.Duration // 0: never
}

var _ carrier.Carrier = (*Carrier)(nil)

// New makes a carrier that is not configured yet.
func New(log *slog.Logger) *Carrier { return &Carrier{log: log, now: time.Now} }

// Describe tells what the carrier can do. It gives nothing back that was ordered, since a DHL
// Express shipment costs nothing until it is handed over, and closes no day.
func (c *Carrier) Describe(context.Context) (*carrier.Description, error) {
	d := &carrier.Description{Labels: []string{carrier.PDF, carrier.ZPL}}
	d.Name, d.Version, d.Config = "mydhl", Version, slices.Clone(settings)
	for _, name := range []string{carrier.OpValidateAddress, carrier.OpRate, carrier.OpShip, carrier.OpGetByReference, carrier.OpShipReturn,
		carrier.OpPickup, carrier.OpTrack} {
		buys := name == carrier.OpShip || name == carrier.OpShipReturn || name == carrier.OpPickup
		d.Operations = append(d.Operations, sdk.Operation{Name: name, Buys: buys, Offline: name == carrier.OpGetByReference})
	}
	for _, p := range products {
		d.Services = append(d.Services, carrier.Service{Code: p.code, Name: p.name})
	}
	return d, nil
}

// Configure opens the record. It asks nothing of the provider: a site that is cut off starts too.
func (c *Carrier) Configure(_ context.Context, s sdk.Settings) error {
	if c.client != nil {
		return sdk.Errorf(sdk.Conflict, "the plugin is configured already").Suggest("start it anew")
	}
	if err := known(s); err != nil {
		return err
	}
	base, err := endpoint(s)
	if err != nil {
		return err
	}
	proxy, err := proxyOf(s)
	if err != nil {
		return err
	}
	if err := c.place(s); err != nil {
		return err
	}
	if err := c.contract(s); err != nil {
		return err
	}
	keep, err := whole(s, setKeep, 400, 30, 36500)
	if err != nil {
		return err
	}
	r, err := openRecord(s[setState], time.Duration(keep)*24*time.Hour, c.log, c.now)
	if err != nil {
		return err
	}
	c.record = r
	c.client = newClient(base, proxy, s[setUser], s[setPassword], c.log, c.now)
	return nil
}

func known(s sdk.Settings) error {
	for name := range s {
		if !slices.ContainsFunc(settings, func(k sdk.Setting) bool { return k.Name == name }) {
			return sdk.Errorf(sdk.Validation, "there is no setting %q", clip(name, 40)).At(name)
		}
	}
	for _, k := range settings {
		if k.Required && s[k.Name] == "" {
			return sdk.Errorf(sdk.Validation, "the setting is missing").At(k.Name).Suggest("give the " + k.Help)
		}
	}
	return nil
}

// endpoint reads where the API is. A password goes over TLS only, but for this machine.
func endpoint(s sdk.Settings) (*url.URL, error) {
	text := s[setBase]
	if text == "" {
		text = production
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, sdk.Errorf(sdk.Validation, "it is no address such as %s", production).At(setBase)
	}
	local := u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return nil, sdk.Errorf(sdk.Validation, "the password would travel in the clear").At(setBase).Suggest("begin it with https://")
	}
	return u, nil
}

func proxyOf(s sdk.Settings) (*url.URL, error) {
	if s[setProxy] == "" {
		return nil, nil
	}
	u, err := url.Parse(s[setProxy])
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, sdk.Errorf(sdk.Validation, "it is no address such as http://proxy.example:3128").At(setProxy)
	}
	return u, nil
}

// place reads where and when parcels are handed over.
func (c *Carrier) place(s sdk.Settings) error {
	zone, err := time.LoadLocation(s[setZone])
	if err != nil || s[setZone] == "Local" {
		return sdk.Errorf(sdk.Validation, "%q is no time zone such as Europe/Berlin", clip(s[setZone], 40)).At(setZone)
	}
	text := s[setHandover]
	if text == "" {
		text = handover
	}
	at, err := time.Parse(clock, text)
	if err != nil {
		return sdk.Errorf(sdk.Validation, "%q is no time of day such as %s", clip(text, 40), handover).At(setHandover)
	}
	c.zone, c.handover = zone, time.Duration(at.Hour())*time.Hour+time.Duration(at.Minute())*time.Minute
	return nil
}

func (c *Carrier) contract(s sdk.Settings) error {
	for _, name := range []string{setAccount, setImport} {
		if len(s[name]) > maxAccount {
			return sdk.Errorf(sdk.Validation, "an account number has at most %d characters", maxAccount).At(name)
		}
	}
	c.account, c.imports = s[setAccount], s[setImport]
	if c.imports == "" {
		c.imports = c.account
	}
	for name, into := range map[string]*bool{setPaperless: &c.paperless, setProof: &c.proof} {
		if v := s[name]; v != "" && v != yes && v != no {
			return sdk.Errorf(sdk.Validation, "%q is neither yes nor no", clip(v, 40)).At(name)
		}
		*into = s[name] == yes
	}
	if c.product = s[setProduct]; c.product == "" {
		c.product = "P"
	}
	if productName(c.product) == "" {
		return sdk.Errorf(sdk.Validation, "%q is no product of DHL Express", clip(c.product, 40)).At(setProduct)
	}
	hours, err := whole(s, setSettle, 0, 24, 24*366)
	c.settle = time.Duration(hours) * time.Hour
	return err
}

// whole reads a number of a setting.
func whole(s sdk.Settings, name string, otherwise, least, most int) (int, error) {
	if s[name] == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s[name])
	if err != nil || n < least || n > most {
		return 0, sdk.Errorf(sdk.Validation, "%q is no number from %d to %d", clip(s[name], 40), least, most).At(name)
	}
	return n, nil
}

// Close lets go of the record's directory.
func (c *Carrier) Close() error {
	if c.client == nil {
		return nil
	}
	c.client.close()
	return c.record.Close()
}

// ready refuses what comes too early or whose caller is gone.
func (c *Carrier) ready(ctx context.Context) error {
	if c.client == nil {
		return sdk.Errorf(sdk.Conflict, "the plugin is not configured").Suggest("configure it first")
	}
	if ctx.Err() != nil {
		return sdk.Errorf(sdk.Unavailable, "the caller is gone, and nothing was sent")
	}
	return nil
}

// Void is not there: DHL bills what it takes up, and a label that is not used costs nothing.
func (c *Carrier) Void(context.Context, *carrier.VoidRequest) (*carrier.Voided, error) {
	return nil, sdk.Errorf(sdk.NotSupported, "the MyDHL API gives no shipment back").
		Suggest("do not hand it over: DHL Express bills what it takes up; cancel a pickup that was booked for it")
}

// Manifest is not there: DHL learns of each shipment as it is ordered.
func (c *Carrier) Manifest(context.Context, *carrier.ManifestRequest) (*carrier.Manifested, error) {
	return nil, sdk.Errorf(sdk.NotSupported, "the MyDHL API closes no day: DHL Express knows each shipment when it is ordered")
}

// clip shortens text to a number of bytes, between characters.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// sorted gives the keys of a map in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
