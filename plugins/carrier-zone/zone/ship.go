package zone

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/checkdigit"
)

// Ship buys a shipment, once for each reference.
func (c *Carrier) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, s, false)
}

// ShipReturn buys the way back. It is priced as any way from From to To.
func (c *Carrier) ShipReturn(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, s, true)
}

func (c *Carrier) ship(ctx context.Context, s *carrier.Shipment, back bool) (*carrier.Shipped, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipment")
	}
	if err := lookReference(s.Reference); err != nil {
		return nil, err
	}
	format, err := labelFormat(s.Label)
	if err != nil {
		return nil, err
	}
	digest, err := digestOf(s, back)
	if err != nil {
		return nil, err
	}
	var old *bought
	voided := false
	look := func(m *memory) (err error) {
		old, voided, err = again(m, s.Reference, digest)
		return err
	}
	if err := c.withBook(look); err != nil {
		return nil, err
	}
	if old != nil {
		return c.shipped(old, format, voided)
	}
	// What takes time, and what can fail, comes before the lock and the writing.
	p, err := c.plan(s, back, digest)
	if err != nil {
		return nil, err
	}
	out, err := c.shipped(p, format, false)
	if err != nil {
		return nil, err
	}
	err = c.withBook(func(m *memory) error {
		if err := look(m); err != nil || old != nil {
			return err
		}
		for _, number := range slices.Concat(p.Tracking, p.SSCC) {
			if other, used := m.numbers[number]; used && number != "" {
				return sdk.Errorf(sdk.Conflict, "number %s was used for shipment %q", number, other).At("numbers").Suggest("take other numbers from the site's range")
			}
		}
		return m.write(&line{Time: c.now().UTC(), Bought: p})
	})
	switch {
	case err != nil:
		return nil, err
	case old != nil:
		return c.shipped(old, format, voided)
	}
	return out, nil
}

func lookReference(reference string) error {
	if reference == "" || len(reference) > maxReference {
		return sdk.Errorf(sdk.Validation, "a reference has 1 to %d bytes, and this one %d", maxReference, len(reference)).At("reference")
	}
	return nil
}

// again finds what was bought under a reference before; nil: nothing.
func again(m *memory, reference, digest string) (old *bought, voided bool, err error) {
	e := m.shipments[reference]
	if e == nil {
		return nil, false, nil
	}
	p, err := m.read(e)
	if err != nil {
		return nil, false, err
	}
	if p.Digest != digest {
		return nil, false, sdk.Errorf(sdk.Duplicate, "reference %q was bought with other contents", reference).At("reference").
			Suggest("take another reference, or send what was sent then")
	}
	return p, !e.voided.IsZero(), nil
}

// digestOf tells requests apart. The numbers are left out: whoever lost the answer may have
// lost them too. So is the label's format: a label may be printed again on another printer.
func digestOf(s *carrier.Shipment, back bool) (string, error) {
	plain := *s
	plain.Numbers, plain.Label, plain.LabelDPI = nil, "", 0
	digest, err := plain.Digest()
	if back {
		digest = "return " + digest
	}
	return digest, err
}

// plan prices a shipment and gives its parcels their numbers.
func (c *Carrier) plan(s *carrier.Shipment, back bool, digest string) (*bought, error) {
	if s.Service == "" {
		return nil, sdk.Errorf(sdk.Validation, "a service is needed to ship").At("service").Suggest("ask for rates and take the service of one")
	}
	if s.Date == "" {
		return nil, sdk.Errorf(sdk.Validation, "a date is needed to ship").At("date").Suggest("give the day on which it is handed over, such as 2026-01-31")
	}
	j, err := look(s, c.now())
	if err != nil {
		return nil, err
	}
	rates, err := c.rates(j)
	if err != nil {
		return nil, err
	}
	_, zone, err := c.tariffOf(j)
	if err != nil {
		return nil, err
	}
	p := &bought{Shipment: *s, Return: back, Digest: digest, Zone: zone, Rate: rates.Rates[0], Warnings: rates.Warnings}
	p.Shipment.Date, p.Shipment.Numbers = day(j.date), nil
	if p.Tracking, p.SSCC, err = c.numbers(s); err != nil {
		return nil, err
	}
	return readBack(p)
}

// readBack gives an entry as the book will give it back, so that the first answer is the same
// as all later ones to the last letter.
func readBack(p *bought) (*bought, error) {
	text, err := encodeLine(&line{Bought: p})
	if err != nil {
		return nil, err
	}
	l, err := decodeLine(&book.Record{Version: recordVersion, Body: text})
	if err != nil {
		return nil, err
	}
	return l.Bought, nil
}

var plainTracking = regexp.MustCompile(`^[0-9A-Z-]{4,30}$`)

// checkTracking proves the form of a tracking number, and its check digit where it has one.
func (c *Carrier) checkTracking(number string) error {
	if !plainTracking.MatchString(number) {
		return fmt.Errorf("%q is no tracking number of 4 to 30 capitals, digits and hyphens", cut(number))
	}
	switch c.tracking {
	case "s10":
		return checkdigit.Check(checkdigit.S10, number)
	case "mod10":
		body, last := number[:len(number)-1], number[len(number)-1]
		digit, err := checkdigit.Mod10(body)
		if err == nil && digit != last {
			err = fmt.Errorf("the check digit of %s is %c, and must be %c", number, last, digit)
		}
		return err
	}
	return nil
}

// numbers gives each parcel its tracking number and its SSCC; empty: it has none.
func (c *Carrier) numbers(s *carrier.Shipment) (tracking, sscc []string, err error) {
	pick := func(name string) ([]string, error) {
		list := s.Numbers[name]
		if len(list) != len(s.Parcels) {
			return nil, sdk.Errorf(sdk.Validation, "%d numbers for %d parcels", len(list), len(s.Parcels)).At("numbers." + name).
				Suggest("bring one from the site's range " + name + " for each parcel")
		}
		return list, nil
	}
	own := 0
	for _, p := range s.Parcels {
		own += when(p.SSCC != "", 1)
	}
	var leased []string
	if own < len(s.Parcels) && (c.sscc || len(s.Numbers[rangeSSCC]) > 0) {
		if leased, err = pick(rangeSSCC); err != nil {
			return nil, nil, err
		}
	}
	for i, p := range s.Parcels {
		number, field := p.SSCC, fmt.Sprintf("parcels[%d].sscc", i)
		if number == "" && leased != nil {
			number, field = leased[i], fmt.Sprintf("numbers.%s[%d]", rangeSSCC, i)
		}
		if number != "" || c.sscc {
			if err := checkdigit.Check(checkdigit.SSCC, number); err != nil {
				return nil, nil, sdk.Errorf(sdk.Validation, "%v", err).At(field)
			}
		}
		sscc = append(sscc, number)
	}
	tracking = sscc
	if c.tracking != rangeSSCC {
		if tracking, err = pick(rangeTracking); err != nil {
			return nil, nil, err
		}
		for i, number := range tracking {
			if err := c.checkTracking(number); err != nil {
				return nil, nil, sdk.Errorf(sdk.Validation, "%v", err).At(fmt.Sprintf("numbers.%s[%d]", rangeTracking, i))
			}
		}
	}
	for _, list := range [][]string{tracking, sscc} {
		seen := map[string]bool{"": false}
		for i, number := range list {
			if seen[number] {
				return nil, nil, sdk.Errorf(sdk.Validation, "number %s is there twice", number).At(fmt.Sprintf("parcels[%d]", i))
			}
			seen[number] = number != ""
		}
	}
	return slices.Clone(tracking), sscc, nil
}

// shipped makes the answer from what the book holds, the labels included: they are printed
// from the entry, the same each time.
func (c *Carrier) shipped(p *bought, format string, voided bool) (*carrier.Shipped, error) {
	rate := p.Rate
	out := &carrier.Shipped{Reference: p.Shipment.Reference, Shipment: p.Tracking[0], Service: p.Shipment.Service, Rate: &rate, Voided: voided,
		Warnings: slices.Clone(p.Warnings)}
	for i, parcel := range p.Shipment.Parcels {
		doc, warnings, err := c.label(p, i, format)
		if err != nil {
			return nil, sdk.Errorf(sdk.Internal, "the label of parcels[%d] cannot be made: %v", i, err)
		}
		out.Documents = append(out.Documents, *doc)
		for _, w := range warnings {
			if len(out.Warnings) < maxWarnings && !slices.Contains(out.Warnings, w) {
				out.Warnings = append(out.Warnings, w)
			}
		}
		out.Parcels = append(out.Parcels, carrier.ShippedParcel{Reference: parcel.Reference, Tracking: p.Tracking[i], SSCC: p.SSCC[i], Label: i})
	}
	return out, nil
}

// GetByReference finds what was bought, with its labels in the format that was asked for then.
func (c *Carrier) GetByReference(ctx context.Context, reference string) (*carrier.Shipped, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if err := lookReference(reference); err != nil {
		return nil, err
	}
	var p *bought
	voided := false
	err := c.withBook(func(m *memory) (err error) {
		e := m.shipments[reference]
		if e == nil {
			return sdk.Errorf(sdk.NotFound, "nothing was bought under reference %q", reference).At("reference")
		}
		voided = !e.voided.IsZero()
		p, err = m.read(e)
		return err
	})
	if err != nil {
		return nil, err
	}
	format, err := labelFormat(p.Shipment.Label)
	if err != nil {
		return nil, err
	}
	return c.shipped(p, format, voided)
}

// Void takes back a shipment that was not handed over. Nothing was paid yet, so all of it is
// given back.
func (c *Carrier) Void(ctx context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no request").At("request")
	}
	var out *carrier.Voided
	err := c.withBook(func(m *memory) error {
		reference, e, err := findVoid(m, r)
		if err != nil {
			return err
		}
		p, err := m.read(e)
		if err != nil {
			return err
		}
		total := p.Rate.Total
		out = &carrier.Voided{Reference: reference, Accepted: true, Refund: &total}
		switch {
		case !e.voided.IsZero():
			return nil
		case e.manifest != nil:
			return sdk.Errorf(sdk.Conflict, "shipment %q was handed over with manifest %s", reference, e.manifest.Number).At("reference").
				Suggest("stop the parcel at the depot, or ship it back")
		}
		return m.write(&line{Time: c.now().UTC(), Voided: reference})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func findVoid(m *memory, r *carrier.VoidRequest) (string, *entryOf, error) {
	reference, field := r.Reference, "reference"
	switch {
	case reference != "":
	case r.Shipment != "":
		reference, field = m.numbers[r.Shipment], "shipment"
	case len(r.Tracking) > 0:
		reference, field = m.numbers[r.Tracking[0]], "tracking[0]"
	default:
		return "", nil, sdk.Errorf(sdk.Validation, "nothing is named").At("reference").Suggest("name the reference, the shipment or a tracking number")
	}
	e := m.shipments[reference]
	if e == nil {
		return "", nil, sdk.Errorf(sdk.NotFound, "there is no such shipment").At(field)
	}
	if r.Shipment != "" && r.Shipment != e.tracking[0] {
		return "", nil, sdk.Errorf(sdk.Validation, "shipment %s is not that of reference %q", cut(r.Shipment), reference).At("shipment")
	}
	for i, number := range r.Tracking {
		if !slices.Contains(e.tracking, number) {
			return "", nil, sdk.Errorf(sdk.Validation, "number %s is not of shipment %q", cut(number), reference).At(fmt.Sprintf("tracking[%d]", i))
		}
	}
	if len(r.Tracking) > 0 && len(slices.Compact(slices.Sorted(slices.Values(r.Tracking)))) < len(e.tracking) {
		return "", nil, sdk.Errorf(sdk.NotSupported, "a shipment is voided as a whole: it has %d parcels", len(e.tracking)).At("tracking").Suggest("name all of them, or none")
	}
	return reference, e, nil
}
