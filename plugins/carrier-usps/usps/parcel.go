package usps

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// maxPounds is the heaviest parcel of domestic mail.
var maxPounds = decimal.NewFromInt(70)

// usd is the currency of all that the provider prices.
const usd = "USD"

// packagings are the kinds of packages, and the provider's rate indicators that price them.
// Without a name it is the sender's own box: single piece, oversized or cubic, whichever costs
// less.
var packagings = map[string][]string{
	"":                          {"SP", "PA", "DR", "OS", "CP"},
	"own":                       {"SP", "PA", "DR", "OS", "CP"},
	"nonrectangular":            {"SP", "PA", "DN", "OS"},
	"soft-pack":                 {"P5", "P6", "P7", "P8", "P9", "Q6", "Q7", "Q8", "Q9", "Q0"},
	"flat-rate-envelope":        {"FE", "E4"},
	"legal-flat-rate-envelope":  {"FA", "E6"},
	"padded-flat-rate-envelope": {"FP"},
	"small-flat-rate-box":       {"FS"},
	"medium-flat-rate-box":      {"FB"},
	"large-flat-rate-box":       {"PL", "PM"},
}

// extra is an extra service: its code for most mail classes, and for express mail.
type extra struct {
	name        string
	code        int
	expressCode int
}

// job is a shipment that was looked at.
type job struct {
	shipment *carrier.Shipment
	from     party
	to       party
	returnTo *party
	weight   decimal.Decimal // pounds
	sizes    [3]decimal.Decimal
	extras   []extra
	value    *decimal.Decimal // insured
	image    string           // the provider's name of the label's format
	format   string
	customs  *customsForm
	warnings []sdk.Warning
}

// look takes a shipment apart, and refuses what the provider does not take.
func look(s *carrier.Shipment) (*job, error) {
	if s == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipment")
	}
	if len(s.Parcels) == 0 {
		return nil, sdk.Errorf(sdk.Validation, "there is no parcel").At("parcels")
	}
	j := &job{shipment: s}
	for _, step := range []func() error{j.lookAddresses, j.lookParcel, j.lookDate, j.lookMoney, j.lookOptions, j.lookLabel, j.lookCustoms} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if len(s.Parcels) > 1 {
		return nil, sdk.Errorf(sdk.NotSupported, "the provider prices and labels every parcel on its own").At("parcels[1]").
			Suggest("send each parcel as a shipment, with a reference of its own")
	}
	return j, nil
}

func (j *job) lookAddresses() error {
	for _, one := range []struct {
		path string
		a    *sdk.Address
		out  *party
	}{{"from", &j.shipment.From, &j.from}, {"to", &j.shipment.To, &j.to}} {
		p, warnings, err := partyOf(one.path, one.a)
		if err != nil {
			return err
		}
		*one.out = p
		j.warnings = append(j.warnings, warnings...)
	}
	if j.shipment.ReturnTo == nil {
		return nil
	}
	p, warnings, err := partyOf("returnTo", j.shipment.ReturnTo)
	j.returnTo = &p
	j.warnings = append(j.warnings, warnings...)
	return err
}

func (j *job) lookParcel() error {
	p := &j.shipment.Parcels[0]
	weight, err := p.Weight.In(sdk.Pound)
	if err != nil || !weight.IsPositive() {
		return sdk.Errorf(sdk.Validation, "it is no weight such as 2.5 kg").At("parcels[0].weight")
	}
	if weight.GreaterThan(maxPounds) {
		return sdk.Errorf(sdk.NotServiced, "%s lb are more than %s lb", weight.Round(2), maxPounds).At("parcels[0].weight").Suggest("split the parcel")
	}
	// Rounded up: who says less pays later.
	j.weight = weight.RoundUp(4)
	if _, known := packagings[p.Packaging]; !known {
		return sdk.Errorf(sdk.NotSupported, "there is no packaging %.32q", p.Packaging).At("parcels[0].packaging").Suggest("take own, soft-pack, or one of the flat-rate ones")
	}
	if p.Dimensions == nil {
		return sdk.Errorf(sdk.Validation, "the provider prices by size").At("parcels[0].dimensions")
	}
	d := p.Dimensions
	sizes := []decimal.Decimal{d.Length, d.Width, d.Height}
	for i, size := range sizes {
		inches, err := sdk.Measure{Value: size, Unit: d.Unit}.In(sdk.Inch)
		if err != nil || !inches.IsPositive() || inches.GreaterThan(decimal.NewFromInt(1000)) {
			return sdk.Errorf(sdk.Validation, "it is no size such as 30 × 20 × 10 cm").At("parcels[0].dimensions")
		}
		sizes[i] = inches.RoundUp(2)
	}
	slices.SortFunc(sizes, func(a, b decimal.Decimal) int { return b.Cmp(a) }) // the longest is the length
	j.sizes = [3]decimal.Decimal(sizes)
	return nil
}

func (j *job) lookDate() error {
	if d := j.shipment.Date; d != "" {
		if _, err := time.Parse(time.DateOnly, d); err != nil {
			return sdk.Errorf(sdk.Validation, "%.16q is no day such as 2026-01-31", d).At("date")
		}
	}
	return nil
}

func (j *job) lookMoney() error {
	s := j.shipment
	if p := s.Payer; p != nil && (p.Party != carrier.PayerSender || p.Account != "") {
		return sdk.Errorf(sdk.NotSupported, "only the account that the plugin is configured with pays").At("payer")
	}
	if s.COD != nil {
		return sdk.Errorf(sdk.NotSupported, "the provider makes no labels that collect money").At("cod")
	}
	if s.Insurance == nil {
		return nil
	}
	if s.Insurance.Currency != usd || !s.Insurance.Amount.IsPositive() {
		return sdk.Errorf(sdk.Validation, "%s cannot be insured; an amount of %s can", s.Insurance, usd).At("insurance")
	}
	value := s.Insurance.Amount
	j.value = &value
	code := 930
	if value.GreaterThan(decimal.NewFromInt(500)) {
		code = 931
	}
	j.extras = append(j.extras, extra{"insurance", code, 925})
	return nil
}

func (j *job) lookOptions() error {
	for _, name := range slices.Sorted(maps.Keys(j.shipment.Options)) {
		value, field := j.shipment.Options[name], "options."+name
		switch name {
		case carrier.OptSaturday: // mail is delivered on Saturdays anyway
		case carrier.OptSignature:
			switch value {
			case "none":
			case "any":
				j.extras = append(j.extras, extra{"signature", 921, 981})
			case "adult":
				j.extras = append(j.extras, extra{"adult signature", 922, 922})
			default:
				return sdk.Errorf(sdk.Validation, "%.16q is none of none, any and adult", value).At(field)
			}
		case carrier.OptHold:
			if value == "" || len(value) > 7 {
				return sdk.Errorf(sdk.Validation, "%.16q is no facility ID of at most 7 letters", value).At(field)
			}
			j.to.HoldForPickup, j.to.FacilityID = true, value
		case carrier.OptNotifyMail:
			if j.to.Email = mailOf(value); j.to.Email == "" {
				return sdk.Errorf(sdk.Validation, "the provider does not take this mail address").At(field)
			}
		default:
			return sdk.Errorf(sdk.NotSupported, "there is no option %.32q", name).At(field)
		}
	}
	if j.to.HoldForPickup && (j.to.Email == "" || j.to.Phone == "" || j.from.Email == "" || j.from.Phone == "") {
		return sdk.Errorf(sdk.Validation, "a parcel is held only with a mail address and a phone number of both sides").At("options." + carrier.OptHold)
	}
	slices.SortFunc(j.extras, func(a, b extra) int { return a.code - b.code })
	return nil
}

func (j *job) lookLabel() error {
	s := j.shipment
	j.format = s.Label
	if s.Label != carrier.ZPL && s.LabelDPI != 0 {
		return sdk.Errorf(sdk.NotSupported, "only labels in ZPL have dots an inch").At("labelDpi")
	}
	switch s.Label {
	case "", carrier.PDF:
		j.format, j.image = carrier.PDF, "PDF"
	case carrier.PNG:
		j.image = "PNG"
	case carrier.ZPL:
		switch s.LabelDPI {
		case 0, 203:
			j.image = "ZPL203DPI"
		case 300:
			j.image = "ZPL300DPI"
		default:
			return sdk.Errorf(sdk.NotSupported, "labels have 203 or 300 dots an inch").At("labelDpi")
		}
	default:
		return sdk.Errorf(sdk.NotSupported, "there are no labels of format %.16q", s.Label).At("label")
	}
	return nil
}

var customsContents = map[string]string{"": "MERCHANDISE", "merchandise": "MERCHANDISE", "gift": "GIFT", "sample": "COMMERCIAL_SAMPLE", "documents": "DOCUMENT", "returned": "RETURNED_GOODS"}

// lookCustoms makes the form that parcels to military post offices and some territories need.
func (j *job) lookCustoms() error {
	c := j.shipment.Customs
	if c == nil {
		return nil
	}
	content, known := customsContents[c.Content]
	if !known {
		return sdk.Errorf(sdk.Validation, "there is no content %.16q", c.Content).At("customs.content")
	}
	if len(c.InvoiceNumber) > 15 {
		return sdk.Errorf(sdk.Validation, "it has more than 15 letters").At("customs.invoiceNumber")
	}
	form := &customsForm{CustomsContentType: content, InvoiceNumber: c.InvoiceNumber}
	items := j.shipment.Parcels[0].Items
	if len(items) == 0 || len(items) > 30 {
		return sdk.Errorf(sdk.Validation, "a customs form has 1 to 30 kinds of goods, and this one %d", len(items)).At("parcels[0].items")
	}
	for i := range items {
		item, err := customsItem(fmt.Sprintf("parcels[0].items[%d]", i), &items[i])
		if err != nil {
			return err
		}
		form.Contents = append(form.Contents, *item)
	}
	j.customs = form
	return nil
}

func customsItem(path string, item *carrier.Commodity) (*customsOfItem, error) {
	switch {
	case item.Description == "":
		return nil, sdk.Errorf(sdk.Validation, "goods need a description").At(at(path, "description"))
	case !item.Quantity.IsInteger() || !item.Quantity.IsPositive() || item.Quantity.GreaterThan(decimal.NewFromInt(9999)):
		return nil, sdk.Errorf(sdk.Validation, "customs want a whole number up to 9999").At(at(path, "quantity"))
	case item.Value == nil || item.Value.Currency != usd || !item.Value.Amount.IsPositive():
		return nil, sdk.Errorf(sdk.Validation, "customs want a value in %s", usd).At(at(path, "value"))
	case item.Weight == nil:
		return nil, sdk.Errorf(sdk.Validation, "customs want a weight").At(at(path, "weight"))
	case item.HSCode != "" && (len(item.HSCode) < 6 || len(item.HSCode) > 14):
		return nil, sdk.Errorf(sdk.Validation, "it has 6 to 14 digits").At(at(path, "hsCode"))
	}
	pounds, err := item.Weight.In(sdk.Pound)
	if err != nil || pounds.IsNegative() {
		return nil, sdk.Errorf(sdk.Validation, "it is no weight such as 2.5 kg").At(at(path, "weight"))
	}
	text := []rune(item.Description)
	return &customsOfItem{
		ItemDescription: string(text[:min(len(text), 30)]),
		ItemQuantity:    item.Quantity.IntPart(),
		ItemTotalValue:  number{item.Value.Amount.Mul(item.Quantity).Round(2)},
		WeightUOM:       "lb",
		ItemTotalWeight: number{pounds.Mul(item.Quantity).RoundUp(4)},
		HSTariffNumber:  item.HSCode,
		CountryOfOrigin: item.Origin,
	}, nil
}

// extraCodes gives what is asked for beside the transport. Tracking costs nothing; without any
// code the provider would answer with all that there are.
func (j *job) extraCodes(mailClass string) []int {
	out := []int{920}
	if mailClass == express {
		out = []int{986}
	}
	for _, e := range j.extras {
		if mailClass == express {
			out = append(out, e.expressCode)
		} else {
			out = append(out, e.code)
		}
	}
	return out
}

// parameterField gives the canonical name of what the provider says is wrong.
func parameterField(parameter string) string {
	lower := strings.ToLower(parameter)
	for _, known := range []struct{ part, field string }{
		{"originzipcode", "from.postalCode"}, {"destinationzipcode", "to.postalCode"}, {"packagevalue", "insurance"}, {"itemvalue", "insurance"},
		{"mailclass", "service"}, {"mailingdate", "date"}, {"extraservice", "options"}, {"rateindicator", "parcels[0].packaging"},
		{"processingcategory", "parcels[0].packaging"}, {"dimension", "parcels[0].dimensions"}, {"length", "parcels[0].dimensions"},
		{"width", "parcels[0].dimensions"}, {"height", "parcels[0].dimensions"}, {"girth", "parcels[0].dimensions"}, {"customsform", "customs"},
		{"weight", "parcels[0].weight"}, {"imageinfo", "label"}, {"imagetype", "label"}, {"customerreference", "order"},
	} {
		if strings.Contains(lower, known.part) {
			return known.field
		}
	}
	for _, known := range []struct{ part, path string }{{"toaddress", "to"}, {"fromaddress", "from"}, {"returnaddress", "returnTo"}} {
		if i := strings.Index(lower, known.part); i >= 0 {
			return addressField(known.path, parameter[i+len(known.part):])
		}
	}
	return ""
}
