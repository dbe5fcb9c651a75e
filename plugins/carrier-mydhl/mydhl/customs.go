package mydhl

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

const (
	maxDescription = 70
	maxGoods       = 512
	maxSigner      = 35
	maxQuantity    = 1_000_000_000
)

// reasons of an export, and the invoices that go with them, by the contract's contents.
var reasons = map[string]struct{ reason, invoice string }{
	"": {"permanent", "commercial"}, "merchandise": {"permanent", "commercial"}, "gift": {"gift", "proforma"},
	"sample": {"sample", "proforma"}, "returned": {"return", "returns"},
}

// declarable tells whether customs want to know of it. Documents they do not.
func declarable(s *carrier.Shipment) bool {
	return s.Customs != nil && s.Customs.Content != "documents"
}

// dutiesPaid tells whether the duties are not the recipient's.
func dutiesPaid(c *carrier.Customs) bool {
	return c.DutyPayer == carrier.PayerSender || c.DutyPayer == carrier.PayerThird || c.DutyPayer == "" && c.Incoterm == "DDP"
}

// contentOf tells what is in the parcels.
func contentOf(s *carrier.Shipment, back bool, date string) (*content, error) {
	pieces, system, err := piecesOf(s.Parcels)
	if err != nil {
		return nil, err
	}
	for i := range pieces {
		pieces[i].ReferenceNumber = i + 1
		if ref := strings.TrimSpace(s.Parcels[i].Reference); ref != "" {
			pieces[i].CustomerReferences = []reference{{Value: short(ref, maxPrinted), TypeCode: "CU"}}
		}
	}
	out := &content{Packages: pieces, UnitOfMeasurement: system, Incoterm: "DAP", Description: describe(s)}
	if value, err := valueOf(s.Parcels); err != nil {
		return nil, err
	} else if value != nil {
		worth, err := priceOf(sdk.Money{Amount: value.Amount.Round(3), Currency: value.Currency}, "parcels[0].value")
		if err != nil {
			return nil, err
		}
		out.DeclaredValue, out.DeclaredValueCurrency = &worth, value.Currency
	}
	if s.Customs != nil && s.Customs.Incoterm != "" {
		out.Incoterm = s.Customs.Incoterm
	}
	if !incoterms[out.Incoterm] {
		return nil, sdk.Errorf(sdk.Validation, "DHL knows no incoterm %q", clip(out.Incoterm, 20)).At("customs.incoterm")
	}
	if !declarable(s) {
		return out, nil
	}
	if out.DeclaredValue == nil {
		return nil, sdk.Errorf(sdk.Validation, "customs want to know what the goods are worth").At("parcels[0].items")
	}
	out.IsCustomsDeclarable = true
	out.ExportDeclaration, err = declarationOf(s, back, date, system, out.DeclaredValueCurrency)
	return out, err
}

var incoterms = map[string]bool{"EXW": true, "FCA": true, "CPT": true, "CIP": true, "DPU": true, "DAP": true, "DDP": true, "FAS": true, "FOB": true,
	"CFR": true, "CIF": true, "DAF": true, "DAT": true, "DDU": true, "DEQ": true, "DES": true}

// describe says in a line what is sent.
func describe(s *carrier.Shipment) string {
	var names []string
	for _, p := range s.Parcels {
		for _, item := range p.Items {
			if d := strings.TrimSpace(item.Description); d != "" {
				names = append(names, d)
			}
		}
	}
	switch {
	case len(names) > 0:
		return strings.TrimSpace(short(strings.Join(names, ", "), maxDescription))
	case s.Customs != nil && s.Customs.Content == "documents":
		return "Documents"
	case strings.TrimSpace(s.Order) != "":
		return short("Order "+strings.TrimSpace(s.Order), maxDescription)
	}
	return "Goods"
}

// short cuts text that is only printed.
func short(text string, most int) string {
	runes := []rune(text)
	return string(runes[:min(len(runes), most)])
}

// valueOf adds up what the goods are worth: the parcels' own values, or else their items'. nil
// if nobody said.
func valueOf(parcels []carrier.Parcel) (*sdk.Money, error) {
	var sum *sdk.Money
	add := func(m sdk.Money, at string) error {
		if sum == nil {
			sum = &m
			return nil
		}
		total, err := sum.Plus(m)
		if err != nil {
			return sdk.Errorf(sdk.Validation, "DHL wants one currency in a shipment: %v", err).At(at)
		}
		sum = &total
		return nil
	}
	for i, p := range parcels {
		if p.Value != nil {
			if err := add(*p.Value, fmt.Sprintf("parcels[%d].value", i)); err != nil {
				return nil, err
			}
			continue
		}
		for j, item := range p.Items {
			if item.Value == nil {
				continue
			}
			worth := sdk.Money{Amount: item.Value.Amount.Mul(item.Quantity), Currency: item.Value.Currency}
			if err := add(worth, fmt.Sprintf("parcels[%d].items[%d].value", i, j)); err != nil {
				return nil, err
			}
		}
	}
	return sum, nil
}

func declarationOf(s *carrier.Shipment, back bool, date, system, money string) (*exportDeclaration, error) {
	why, known := reasons[s.Customs.Content]
	if !known {
		return nil, sdk.Errorf(sdk.Validation, "%q is no content", clip(s.Customs.Content, 20)).At("customs.content")
	}
	if back {
		why = reasons["returned"]
	}
	out := &exportDeclaration{ExportReasonType: why.reason, ShipmentType: "commercial"}
	if why.reason == "gift" {
		out.ShipmentType = "personal"
	}
	for i, p := range s.Parcels {
		for j := range p.Items {
			line, err := lineOf(&p.Items[j], fmt.Sprintf("parcels[%d].items[%d].", i, j), system, money)
			if err != nil {
				return nil, err
			}
			line.Number, line.ExportReasonType = len(out.LineItems)+1, why.reason
			out.LineItems = append(out.LineItems, *line)
		}
	}
	if len(out.LineItems) == 0 {
		return nil, sdk.Errorf(sdk.Validation, "customs want to know what the goods are").At("parcels[0].items")
	}
	if len(out.LineItems) > maxParcels {
		return nil, sdk.Errorf(sdk.Validation, "DHL takes %d lines of goods", maxParcels).At("parcels[0].items")
	}
	if n := s.Customs.InvoiceNumber; n != "" {
		if err := fits(n, maxPrinted, "customs.invoiceNumber"); err != nil {
			return nil, err
		}
		out.Invoice = &invoice{Number: n, Date: s.Customs.InvoiceDate, SignatureName: short(s.Customs.Signer, maxSigner)}
		if out.Invoice.Date == "" {
			out.Invoice.Date = date
		}
	}
	return out, nil
}

func lineOf(item *carrier.Commodity, at, system, money string) (*lineItem, error) {
	fault := func(field, text string) error { return sdk.Errorf(sdk.Validation, "%s", text).At(at + field) }
	switch {
	case strings.TrimSpace(item.Description) == "":
		return nil, fault("description", "customs want a description")
	case len(item.Origin) != 2:
		return nil, fault("origin", "customs want the country of origin, of two letters")
	case item.Value == nil:
		return nil, fault("value", "customs want the value of one")
	case item.Value.Currency != money:
		return nil, fault("value", "DHL wants one currency in a shipment, and "+money+" is that of the others")
	case item.Weight == nil:
		return nil, fault("weight", "customs want the weight of one")
	case !item.Quantity.IsInteger() || !item.Quantity.IsPositive() || item.Quantity.GreaterThan(decimal.NewFromInt(maxQuantity)):
		return nil, fault("quantity", "DHL takes whole numbers of pieces")
	}
	unit := sdk.Kilogram
	if system == imperial {
		unit = sdk.Pound
	}
	one, err := item.Weight.In(unit)
	if err != nil || one.IsNegative() {
		return nil, fault("weight", item.Weight.Value.String()+" "+clip(item.Weight.Unit, 10)+" is no weight")
	}
	out := &lineItem{Description: short(strings.TrimSpace(item.Description), maxGoods), ManufacturerCountry: item.Origin}
	if out.Price, err = priceOf(*item.Value, at+"value"); err != nil {
		return nil, err
	}
	out.Quantity.Value, out.Quantity.UnitOfMeasurement = number{item.Quantity}, "PCS"
	out.Weight.NetValue = number{one.Mul(item.Quantity).RoundUp(3)}
	if hs := strings.Map(digitsAndLetters, item.HSCode); hs != "" {
		if len(hs) < 2 || len(hs) > 18 {
			return nil, fault("hsCode", "DHL takes codes of 2 to 18 characters")
		}
		out.CommodityCodes = []reference{{Value: hs, TypeCode: "outbound"}}
	}
	return out, nil
}

func digitsAndLetters(r rune) rune {
	if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}
