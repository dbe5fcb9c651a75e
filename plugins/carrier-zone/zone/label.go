package zone

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// The label is 4 by 6 inches at 203 dots an inch, which are 8 dots a millimetre.
const (
	labelWidth  = 812
	labelHeight = 1218
	dotsPerMM   = 8
	dotsPerInch = 203
	margin      = 28
	quiet       = 10 // modules of white that a scanner wants on both sides of a code
)

// fontName is a font in a printer's memory.
var fontName = regexp.MustCompile(`^[A-Z]:[A-Z0-9_-]{1,16}\.(TTF|TTE|FNT)$`)

// canvas is what a label is drawn on; all measures are dots.
type canvas interface {
	// text writes one line from its top left corner, no wider than width. The field is where
	// the text comes from, for the warning if it cannot be written as it is.
	text(x, y, height, width int, bold bool, field, text string)
	rule(x, y, width int)
	// bars draws a Code 128 in the middle of the width; gs1 makes it a GS1-128.
	bars(y, height int, code string, gs1 bool) error
}

func labelFormat(wanted string) (string, error) {
	switch wanted {
	case "":
		return carrier.ZPL, nil
	case carrier.ZPL, carrier.PDF:
		return wanted, nil
	}
	return "", sdk.Errorf(sdk.NotSupported, "labels are made as zpl and pdf, not as %q", cut(wanted)).At("label")
}

// label prints the label of one parcel.
func (c *Carrier) label(p *bought, parcel int, format string) (*carrier.Document, []sdk.Warning, error) {
	doc := &carrier.Document{Kind: "label", Format: format}
	if p.Return {
		doc.Kind = "return-label"
	}
	if format == carrier.PDF {
		on, err := newPDFLabel(p.Shipment.Date)
		if err != nil {
			return nil, nil, err
		}
		if err := c.draw(on, p, parcel); err != nil {
			return nil, nil, err
		}
		doc.Data, err = on.bytes()
		return doc, on.warnings(), err
	}
	on := &zplLabel{font: c.font}
	if err := c.draw(on, p, parcel); err != nil {
		return nil, nil, err
	}
	doc.Data = on.bytes()
	return doc, on.warnings(), nil
}

// draw lays a label out: who carries it and how, from, to, what it is, and the codes.
func (c *Carrier) draw(on canvas, p *bought, parcel int) error {
	s, width := &p.Shipment, labelWidth-2*margin
	on.text(margin, 24, 40, width/2, true, "name", c.name)
	on.text(labelWidth/2+margin, 24, 40, width/2-margin, true, "service", p.Rate.Name)
	on.rule(margin, 74, width)
	y := 84
	for _, l := range addressLines("from", &s.From) {
		on.text(margin, y, 22, width*2/3, false, l.field, l.text)
		y += 25
	}
	on.text(labelWidth*2/3+margin, 84, 64, width/3-2*margin, true, "zone", p.Zone)
	on.text(labelWidth*2/3+margin, 156, 24, width/3-2*margin, false, "date", s.Date)
	if p.Return {
		on.text(labelWidth*2/3+margin, 190, 48, width/3-2*margin, true, "return", "RETURN")
	}
	on.rule(margin, 292, width)
	y = 304
	for _, l := range addressLines("to", &s.To) {
		on.text(margin, y, 38, width, true, l.field, l.text)
		y += 42
	}
	on.rule(margin, 650, width)
	weight := s.Parcels[parcel].Weight
	on.text(margin, 660, 30, width, true, "parcel", strings.Join(append([]string{fmt.Sprintf("Parcel %d of %d", parcel+1, len(s.Parcels)),
		weight.Value.String() + " " + weight.Unit}, marks(p)...), ", "))
	on.text(margin, 696, 24, width, false, "reference", "Ref "+strings.TrimSuffix(s.Reference+" / "+s.Order, " / "))
	on.text(margin, 724, 24, width, false, fmt.Sprintf("parcels[%d].reference", parcel), s.Parcels[parcel].Reference)
	// The higher code goes to the SSCC, which partners scan; 32 mm are what GS1 asks for.
	tracking, sscc := p.Tracking[parcel], p.SSCC[parcel]
	if tracking != sscc {
		height := 130
		if sscc == "" {
			height = 300
		}
		if err := on.bars(754, height, tracking, false); err != nil {
			return err
		}
		on.text(margin, 754+height+6, 26, width, false, "tracking", tracking)
	}
	if sscc != "" {
		if err := on.bars(920, 32*dotsPerMM, sscc, true); err != nil {
			return err
		}
		on.text(margin, 1182, 26, width, false, "sscc", "(00) "+sscc)
	}
	return nil
}

// marks are what the driver must know.
func marks(p *bought) []string {
	var out []string
	if p.Shipment.COD != nil {
		out = append(out, "COD "+p.Shipment.COD.String())
	}
	for _, name := range sortedKeys(p.Shipment.Options) {
		switch value := p.Shipment.Options[name]; {
		case name == carrier.OptSaturday && value == "true":
			out = append(out, "SATURDAY")
		case name == carrier.OptSignature && value != "none":
			out = append(out, "SIGNATURE "+strings.ToUpper(strings.TrimPrefix(value, "true")))
		}
	}
	return out
}

type labelLine struct{ field, text string }

// addressLines are those of an address that say something.
func addressLines(field string, a *sdk.Address) []labelLine {
	lines := []labelLine{{field + ".name", a.Name}, {field + ".company", a.Company}}
	for i, text := range a.Lines {
		lines = append(lines, labelLine{fmt.Sprintf("%s.lines[%d]", field, i), text})
	}
	lines = append(lines, labelLine{field + ".city", strings.Join(strings.Fields(a.City+" "+a.State+" "+a.PostalCode), " ")},
		labelLine{field + ".country", a.Country}, labelLine{field + ".phone", a.Phone})
	var out []labelLine
	for _, l := range lines {
		if l.text = clean(l.text); l.text != "" {
			out = append(out, l)
		}
	}
	return out
}

// clean makes one line of a text: what moves a cursor or turns the direction is a space.
func clean(text string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(text, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
	}), " ")
}
