package mydhl

import (
	"encoding/json"
	"math/rand"
	"net/http"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

// Whatever the provider answers, it is read or refused, prices add up, and an error has a class.
func FuzzAnswers(f *testing.F) {
	p := newDHL(f, at12)
	m := opened(f, p, f.TempDir(), nil)
	for _, seed := range []struct {
		status int
		answer any
	}{
		{400, problemOf("Bad request", "7008: not available")}, {422, problemOf("Validation error", "#/content/packages/0/weight: required key [x] not found")},
	} {
		text, err := json.Marshal(seed.answer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed.status, text)
	}
	s := order()
	for _, ask := range []func() (int, any){
		func() (int, any) {
			return p.rates(map[string]any{"plannedShippingDateAndTime": stamp(noon.Add(time.Hour)), "accounts": []any{map[string]any{"number": "123456789"}}})
		},
		func() (int, any) {
			p.sold = []*consignment{{number: "1", pieces: []string{"JD1"}, events: []map[string]any{event("2026-05-05", "08:00:00", "PU")}}}
			return p.found(p.sold, true)
		},
	} {
		status, answer := ask()
		text, err := json.Marshal(answer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(status, text)
	}
	f.Add(201, []byte(`{"shipmentTrackingNumber":"1","packages":[{"trackingNumber":"a"},{"trackingNumber":"b","referenceNumber":2}],"documents":[{"typeCode":"label","imageFormat":"PDF","content":"JVBERg=="}],"shipmentCharges":[{"currencyType":"BILLC","priceCurrency":"EUR","price":3,"serviceBreakdown":[{"name":"x","price":1}]}]}`))
	b := begunOf(s, false)
	f.Fuzz(func(t *testing.T, status int, text []byte) {
		k := &call{buys: true, fields: shipFields}
		if err := k.refused(&httpcall.Answer{Status: status, Header: http.Header{}, Body: text}, noon); !sdk.ClassOf(err).Known() {
			t.Errorf("the class of %v is unknown", err)
		}
		var rates rateAnswer
		if json.Unmarshal(text, &rates) == nil {
			if got, err := ratesOf(s, &rates); err == nil {
				for i := range got.Rates {
					addsUp(t, &got.Rates[i])
				}
			}
		}
		var made shipmentAnswer
		if json.Unmarshal(text, &made) == nil {
			if got, err := soldOf(&made, b, "pdf"); err == nil {
				if out := shippedOf(got, "r", b); out.Rate != nil {
					addsUp(t, out.Rate)
				}
			}
		}
		var tracked trackingAnswer
		if json.Unmarshal(text, &tracked) == nil && len(tracked.Shipments) > 0 {
			of := &tracked.Shipments[0]
			recovered([]*trackedShipment{of}, b)
			m.parcelOf("n", map[string]*way{"n": {of.ShipmentTrackingNumber, of.EstimatedDeliveryDate, of.Events}}, time.Time{})
		}
		var where addressAnswer
		if json.Unmarshal(text, &where) == nil {
			adviceOf(&s.To, &where)
		}
	})
}

func addsUp(t *testing.T, r *carrier.Rate) {
	t.Helper()
	sum := decimal.Zero
	for _, c := range r.Charges {
		sum = sum.Add(c.Amount.Amount)
	}
	if !sum.Equal(r.Total.Amount) || !r.Total.Amount.IsPositive() {
		t.Errorf("%s: the charges add up to %s", r.Total, sum)
	}
}

// However a price is cut into parts, they add up.
func TestBalanceAddsUp(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	for range 1000 {
		rate := &carrier.Rate{Total: sdk.Money{Amount: decimal.New(1+r.Int63n(100000), -int32(r.Intn(4))), Currency: "EUR"}}
		for range r.Intn(4) {
			addCharge(rate, []string{"", "FF", "AA"}[r.Intn(3)], "x", decimal.New(r.Int63n(100000)-20000, -int32(r.Intn(4))))
		}
		balance(rate, decimal.New(r.Int63n(10000), -2))
		addsUp(t, rate)
	}
}
