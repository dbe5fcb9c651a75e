package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
	"github.com/crossdock/crossdock/deploy/demo/systems"
)

func company(t *testing.T) *northwind.Company {
	t.Helper()
	c, err := northwind.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// entry is what head office took of an order.
func entry(typ, key string, call *ledger.Call) ledger.Entry {
	return ledger.Entry{Act: ledger.Taken, ID: typ + key, Type: typ, Key: key, Call: call}
}

// history is a clean one of the first orders, which hold all kinds of places.
func history(t *testing.T, c *northwind.Company) map[string][]ledger.Entry {
	t.Helper()
	b, err := read(facts)
	if err != nil {
		t.Fatal(err)
	}
	var shop, erp []ledger.Entry
	on := map[string][]string{}
	for i := range c.Orders[:60] {
		o := &c.Orders[i]
		shop = append(shop, ledger.Entry{Act: ledger.Sent, Type: systems.OrderCaptured, Key: o.ID})
		tax, how := b.owed(o)
		call := &ledger.Call{Status: "not_calculated", Currency: "USD"}
		switch how {
		case final:
			call = &ledger.Call{Status: "calculated", Currency: "USD", Amount: tax.String()}
		case provisional:
			shop = append(shop, ledger.Entry{Act: ledger.Noted, Key: o.ID, Call: &ledger.Call{Status: "calculated", Provisional: true, Currency: "USD", Amount: tax.String()}})
		}
		erp = append(erp, entry(systems.TaxFinalised, o.ID, call))
		if o.Shipped.IsZero() {
			continue
		}
		price, currency, err := b.price(o)
		if err != nil {
			t.Fatal(err)
		}
		paper := ledger.Paper{Kind: "label", Named: "sum-" + o.ID, Found: "sum-" + o.ID}
		erp = append(erp, entry(systems.LabelCreated, o.ID, &ledger.Call{Amount: price.String(), Currency: currency, Numbers: []string{"NW" + o.ID}, Papers: []ledger.Paper{paper}}))
		on[o.Region] = append(on[o.Region], o.ID)
	}
	for region, orders := range on {
		erp = append(erp, entry(systems.Manifested, region+"-0001", &ledger.Call{Shipments: orders, Papers: []ledger.Paper{{Kind: "manifest", Named: region, Found: region}}}))
	}
	return map[string][]ledger.Entry{"shop-eu": shop, "erp": erp}
}

// edit changes what a record says of a call.
func edit(typ, key string, change func(c *ledger.Call)) func([]ledger.Entry) []ledger.Entry {
	return func(entries []ledger.Entry) []ledger.Entry {
		for i := range entries {
			if entries[i].Type == typ && (key == "" || entries[i].Key == key) && entries[i].Call != nil {
				change(entries[i].Call)
				break
			}
		}
		return entries
	}
}

func without(typ, key string) func([]ledger.Entry) []ledger.Entry {
	return func(entries []ledger.Entry) []ledger.Entry {
		return slices.DeleteFunc(entries, func(e ledger.Entry) bool { return e.Type == typ && e.Key == key })
	}
}

func twice(typ, key string) func([]ledger.Entry) []ledger.Entry {
	return func(entries []ledger.Entry) []ledger.Entry {
		at := slices.IndexFunc(entries, func(e ledger.Entry) bool { return e.Type == typ && (key == "" || e.Key == key) })
		return append(entries, entries[at])
	}
}

// Orders of the data that the tests look at: to France, to Brazil, to New Mexico in the United
// States.
const (
	french, brazilian, american = "10248", "10250", "10262"
)

func TestAuditSeesEachFault(t *testing.T) {
	c := company(t)
	for _, tt := range []struct {
		name, ledger string
		spoil        func([]ledger.Entry) []ledger.Entry
		want         string // of a fault; empty: it is clean
	}{
		{"clean", "erp", func(e []ledger.Entry) []ledger.Entry { return e }, ""},
		{"a cent of tax", "erp", edit(systems.TaxFinalised, french, func(c *ledger.Call) { c.Amount = "99.99" }), "tax of order 10248: it is USD 99.99, and should be"},
		{"tax in another currency", "erp", edit(systems.TaxFinalised, french, func(c *ledger.Call) { c.Currency = "EUR" }), "tax of order 10248: it is in EUR"},
		{"no tax", "erp", without(systems.TaxFinalised, french), "tax of order 10248: it did not arrive"},
		{"tax of nothing", "erp", edit(systems.TaxFinalised, french, func(c *ledger.Call) { c.Amount = "" }), `tax of order 10248: its amount is ""`},
		{"tax twice", "erp", twice(systems.TaxFinalised, french), "tax of order 10248: it arrived 2 times"},
		{"a zero for what is not known", "erp", edit(systems.TaxFinalised, brazilian, func(c *ledger.Call) { c.Status, c.Amount = "calculated", "0" }),
			"tax of order 10250: it is calculated"},
		{"half a tax for good", "erp", edit(systems.TaxFinalised, american, func(c *ledger.Call) { c.Status, c.Amount = "calculated", "28.47" }),
			"tax of order 10262: it is calculated"},
		{"an estimate that differs", "shop-eu", edit("", american, func(c *ledger.Call) { c.Amount = "28.48" }), "tax of order 10262: it is USD 28.48"},
		{"an estimate for good", "shop-eu", edit("", american, func(c *ledger.Call) { c.Provisional = false }), "tax of order 10262: its estimate is not provisional"},
		{"no estimate", "shop-eu", without("", american), "tax of order 10262: its estimate did not arrive"},
		{"a cent of freight", "erp", edit(systems.LabelCreated, french, func(c *ledger.Call) { c.Amount = "0.01" }), "freight of order 10248: it is EUR 0.01"},
		{"no label", "erp", without(systems.LabelCreated, french), "label of order 10248: it did not arrive"},
		{"a number twice", "erp", edit(systems.LabelCreated, brazilian, func(c *ledger.Call) { c.Numbers[0] = "NW" + french }), `label of order 10250: number "NW10248" is that of order "10248" too`},
		{"a document twice", "erp", edit(systems.LabelCreated, brazilian, func(c *ledger.Call) { c.Papers[0].Named = "sum-" + french }), "is that of order \"10248\" too"},
		{"another document", "erp", edit(systems.LabelCreated, french, func(c *ledger.Call) { c.Papers[0].Found = "other" }), `"sum-10248" is "other" at head office`},
		{"no document", "erp", edit(systems.LabelCreated, french, func(c *ledger.Call) { c.Papers = nil }), "it has 1 numbers and 0 documents"},
		{"a label of nothing", "erp", func(e []ledger.Entry) []ledger.Entry {
			return append(e, entry(systems.LabelCreated, "99999", &ledger.Call{}))
		}, "of 99999, which is no such order"},
		{"no manifest", "erp", edit(systems.Manifested, "eu-0001", func(c *ledger.Call) { c.Shipments = c.Shipments[1:] }), "parcel of order 10248: it stands on no manifest"},
		{"on two manifests", "erp", edit(systems.Manifested, "na-0001", func(c *ledger.Call) { c.Shipments = append(c.Shipments, french) }),
			"parcel of order 10248: it stands on the manifests eu-0001 and na-0001"},
		{"twice on one", "erp", edit(systems.Manifested, "eu-0001", func(c *ledger.Call) { c.Shipments = append(c.Shipments, french) }),
			"parcel of order 10248: it stands on the manifests eu-0001 and eu-0001"},
		{"no manifest's document", "erp", edit(systems.Manifested, "eu-0001", func(c *ledger.Call) { c.Papers[0].Found = "" }), "manifest eu-0001: its document"},
		{"a manifest twice", "erp", twice(systems.Manifested, "eu-0001"), "manifest eu-0001: it arrived 2 times"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			records := history(t, c)
			records[tt.ledger] = tt.spoil(records[tt.ledger])
			r, err := Compare(c, records)
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(r.Faults, func(f string) bool { return strings.Contains(f, tt.want) })
			if tt.want == "" && len(r.Faults) > 0 || tt.want != "" && !found {
				t.Errorf("got %q, want %q", r.Faults, tt.want)
			}
			var out bytes.Buffer
			if clean := r.Print(&out); clean != (tt.want == "") {
				t.Errorf("printed as clean: %v\n%s", clean, out.String())
			}
		})
	}
}

func TestNothingCapturedIsNotClean(t *testing.T) {
	r, err := Compare(company(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Clean() {
		t.Error("an empty history counts as clean")
	}
}

// The facts give every order of the data a freight, and what is known of its tax is as wanted.
func TestFactsCoverTheData(t *testing.T) {
	b, err := read(facts)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	c := company(t)
	for i := range c.Orders {
		_, how := b.owed(&c.Orders[i])
		got[how]++
		if c.Orders[i].Shipped.IsZero() {
			continue
		}
		if _, _, err := b.price(&c.Orders[i]); err != nil {
			t.Error(err)
		}
	}
	if want := map[string]int{final: 563, provisional: 94, "": 173}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// By hand: 440.00 of goods and 32.38 of freight to France at 20 %; 27 pieces of half a
// kilogram in the second zone of 2026 with 11.25 % for fuel.
func TestAmountsByHand(t *testing.T) {
	b, err := read(facts)
	if err != nil {
		t.Fatal(err)
	}
	c := company(t)
	at := slices.IndexFunc(c.Orders, func(o northwind.Order) bool { return o.ID == french })
	tax, _ := b.owed(&c.Orders[at])
	price, currency, err := b.price(&c.Orders[at])
	if err != nil || tax.StringFixed(2) != "94.48" || price.StringFixed(2) != "19.80" || currency != "EUR" {
		t.Errorf("got tax %s, freight %s %s, %v; want 94.48 and 19.80 EUR", tax, currency, price, err)
	}
}

func TestThousands(t *testing.T) {
	for text, want := range map[string]string{"0": "0.00", "999.5": "999.50", "1000": "1,000.00", "1234567.891": "1,234,567.89", "-123456": "-123,456.00"} {
		if got := thousands(decimal.RequireFromString(text)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
