// Package zone is a carrier that needs nobody: a fleet of one's own, or a carrier whose tariff
// is agreed by contract, priced from tables and labelled with numbers that the site holds.
//
// It owns the tables, the labels and the book of what was bought, and refuses to know the
// network and where numbers come from. Its invariant: what was answered once stands in the
// book on disk, and the same reference is answered the same for as long as the book keeps it.
package zone

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// Version of the plugin.
const Version = "1.0.0"

// The settings.
const (
	setTables   = "tables"
	setState    = "state"
	setName     = "name"
	setTracking = "tracking"
	setSSCC     = "sscc"
	setFont     = "zpl-font"
	setPaper    = "paper"
	setKeep     = "keep-days"
)

// keepDays is how long the book keeps a shipment when nothing is said. GS1 lets a number come
// again after a year.
const keepDays = 800

var settings = []sdk.Setting{
	{Name: setTables, Required: true, Help: "directory of the tariffs, *.yaml"},
	{Name: setState, Required: true, Help: "directory of the book of what was bought; of this plugin alone, and part of the site's backup"},
	{Name: setName, Help: "name of the carrier, printed on labels; Own fleet when empty"},
	{Name: setTracking, Help: "form of tracking numbers: plain (capitals, digits, hyphens; when empty), mod10 (digits, the last one GS1's check digit), s10 (UPU), or sscc (the SSCC is the tracking number)"},
	{Name: setSSCC, Help: "range: parcels that bring no SSCC get one from the range sscc; none (when empty): they have none"},
	{Name: setFont, Help: "font of the printer for ZPL text, such as E:ANMDJ.TTF; needed for other scripts than Latin"},
	{Name: setPaper, Help: "of manifests: a4 (when empty) or letter"},
	{Name: setKeep, Help: "days for which the book keeps a shipment at least; 800 when empty, and not less than 400"},
}

// The ranges of numbers.
const (
	rangeTracking = "tracking"
	rangeSSCC     = "sscc"
)

// Carrier is one account: one set of tables and one book.
type Carrier struct {
	log  *slog.Logger
	now  func() time.Time
	open func(path string) (book.File, error) // nil: on the disk
	exit func(code int)                       // nil: os.Exit

	// Set by Configure and never changed after it.
	configured bool
	name       string
	tracking   string
	sscc       bool
	font       string
	paper      string
	keep       int // days
	tables     *tables

	mu     sync.Mutex // held from looking into the book to writing it, so that a reference is bought once
	memory *memory
}

var _ carrier.Carrier = (*Carrier)(nil)

// New makes a carrier that is not configured yet.
func New(log *slog.Logger) *Carrier { return &Carrier{log: log, now: time.Now} }

// Describe tells what the carrier can do; the services once it is configured.
func (c *Carrier) Describe(context.Context) (*carrier.Description, error) {
	d := &carrier.Description{Labels: []string{carrier.ZPL, carrier.PDF}}
	d.Name, d.Version, d.Config = "zone", Version, slices.Clone(settings)
	for _, name := range []string{carrier.OpValidateAddress, carrier.OpRate, carrier.OpShip, carrier.OpGetByReference, carrier.OpShipReturn,
		carrier.OpVoid, carrier.OpPickup, carrier.OpManifest, carrier.OpTrack} {
		buys := name == carrier.OpShip || name == carrier.OpShipReturn || name == carrier.OpPickup || name == carrier.OpManifest
		d.Operations = append(d.Operations, sdk.Operation{Name: name, Offline: true, Buys: buys})
	}
	if c.tracking != rangeSSCC {
		d.Ranges = append(d.Ranges, carrier.Range{Name: rangeTracking, Per: "parcel"})
	}
	if c.sscc {
		d.Ranges = append(d.Ranges, carrier.Range{Name: rangeSSCC, Per: "parcel"})
	}
	if c.tables == nil {
		return d, nil
	}
	d.Data = c.tables.version
	names := map[string]string{}
	for _, t := range c.tables.tariffs {
		for _, s := range t.services {
			names[s.code] = s.name
		}
	}
	for _, code := range sortedKeys(names) {
		d.Services = append(d.Services, carrier.Service{Code: code, Name: names[code]})
	}
	return d, nil
}

// Configure reads the tables and the book.
func (c *Carrier) Configure(_ context.Context, s sdk.Settings) error {
	if c.configured {
		return sdk.Errorf(sdk.Conflict, "the plugin is configured already").Suggest("start it anew")
	}
	if err := c.settings(s); err != nil {
		return err
	}
	t, err := loadTables(s[setTables])
	if err != nil {
		return sdk.Errorf(sdk.Validation, "the tables cannot be used: %v", err).At(setTables)
	}
	m, err := remember(book.Config{Dir: s[setState], Name: bookName, Kind: "carrier-zone", Version: recordVersion, Setting: setState, Log: c.log,
		OpenFile: c.open, Exit: c.exit})
	if err != nil {
		return err
	}
	switch err := m.forget(c.now(), c.keep); {
	case err == nil:
	case sdk.ClassOf(err) == sdk.Unavailable: // a full disk, say, and the book is as it was
		c.log.Warn("the book was not made smaller", "error", err)
	default:
		return sdk.Errorf(sdk.Validation, "the book cannot be used: %v", err).At(setState)
	}
	c.tables, c.memory, c.configured = t, m, true
	return nil
}

func (c *Carrier) settings(s sdk.Settings) error {
	for _, name := range sortedKeys(s) {
		if !slices.ContainsFunc(settings, func(known sdk.Setting) bool { return known.Name == name }) {
			return sdk.Errorf(sdk.Validation, "there is no setting %q", cut(name)).At(name)
		}
	}
	for _, known := range settings {
		if known.Required && s[known.Name] == "" {
			return sdk.Errorf(sdk.Validation, "the setting is missing").At(known.Name).Suggest("give the " + known.Help)
		}
	}
	choice := func(name string, choices ...string) (string, error) {
		if s[name] == "" {
			return choices[0], nil
		}
		if !slices.Contains(choices, s[name]) {
			return "", sdk.Errorf(sdk.Validation, "%q is none of %s", cut(s[name]), strings.Join(choices, ", ")).At(name)
		}
		return s[name], nil
	}
	var err error
	if c.tracking, err = choice(setTracking, "plain", "mod10", "s10", rangeSSCC); err != nil {
		return err
	}
	sscc, err := choice(setSSCC, "none", "range")
	if err != nil {
		return err
	}
	c.sscc = sscc == "range" || c.tracking == rangeSSCC
	if c.paper, err = choice(setPaper, "a4", "letter"); err != nil {
		return err
	}
	c.keep = keepDays
	if text := s[setKeep]; text != "" {
		if c.keep, err = strconv.Atoi(text); err != nil || c.keep < 400 || c.keep > 36500 {
			return sdk.Errorf(sdk.Validation, "%q is no number of days from 400 to 36500", cut(text)).At(setKeep)
		}
	}
	if c.font = s[setFont]; c.font != "" && !fontName.MatchString(c.font) {
		return sdk.Errorf(sdk.Validation, "%q is no font of a printer such as E:ANMDJ.TTF", cut(c.font)).At(setFont)
	}
	if c.name = strings.TrimSpace(s[setName]); c.name == "" {
		c.name = "Own fleet"
	}
	if len(c.name) > maxText {
		return sdk.Errorf(sdk.Validation, "the name has %d bytes, more than %d", len(c.name), maxText).At(setName)
	}
	return nil
}

// ready refuses a call that nobody waits for, or that comes before Configure.
func (c *Carrier) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return sdk.Errorf(sdk.Unavailable, "the call ended before anything was done: %v", err)
	}
	if !c.configured {
		return sdk.Errorf(sdk.Validation, "the plugin is not configured").Suggest("call Configure first")
	}
	return nil
}

// withBook runs what looks into the book, and maybe writes it, while nobody else does.
func (c *Carrier) withBook(do func(*memory) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.memory.book.Usable(); err != nil {
		return err
	}
	return do(c.memory)
}

// Close lets go of the book.
func (c *Carrier) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.configured {
		return nil
	}
	return c.memory.book.Close()
}

// ValidateAddress looks at the form of an address and at whether any tariff goes there today.
func (c *Carrier) ValidateAddress(ctx context.Context, a *sdk.Address) (*carrier.AddressAdvice, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if a == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no address").At("address")
	}
	tidy := *a
	tidy.Country = strings.ToUpper(strings.TrimSpace(a.Country))
	tidy.PostalCode = strings.ToUpper(strings.Join(strings.Fields(a.PostalCode), " "))
	tidy.City = strings.Join(strings.Fields(a.City), " ")
	out := &carrier.AddressAdvice{Valid: true, Confidence: "format"}
	fault := func(code, field, format string, args ...any) {
		out.Warnings = append(out.Warnings, sdk.Warning{Code: code, Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if err := lookAddress("", &tidy); err != nil {
		out.Valid = false
		fault("form", err.Field, "%s", err.Message)
		return out, nil
	}
	if len(tidy.Lines) == 0 || strings.TrimSpace(tidy.Lines[0]) == "" {
		out.Valid = false
		fault("form", "lines", "there is no street")
	}
	if tidy.City == "" {
		out.Valid = false
		fault("form", "city", "there is no city")
	}
	served := false
	for _, t := range c.tables.tariffs {
		if !t.inForce(c.now().UTC().Truncate(24 * time.Hour)) {
			continue
		}
		if t.zones.byCode(tidy.Country) && postalCode(tidy.PostalCode) == "" && out.Valid {
			out.Valid = false
			fault("form", "postalCode", "there is no postal code, and the zone depends on it")
		}
		e := t.zones.find(&tidy)
		served = served || e != nil && e.value != ""
	}
	if !served {
		fault("not_serviced", "", "no tariff goes there today")
	}
	if tidy.Country != a.Country || tidy.PostalCode != a.PostalCode || tidy.City != a.City {
		out.Suggested, out.Confidence = &tidy, "corrected"
	}
	return out, nil
}
