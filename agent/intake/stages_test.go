package intake

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent/routing"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// The stages of one event's way through the door are measured over what is ordinary: a
// contract of thirty fields and an event of about 1 KB.

//go:embed testdata/order-30.json
var thirtyFields []byte

const thirtyPolicy = testPolicy + `---
apiVersion: crossdock/v1
kind: Contract
metadata: {name: order.placed}
spec:
  owner: orders
  authority: shop
  key: .orderId
  compatibility: none
  versions:
    - {version: 1.0.0, state: active, schema: order-30.json}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: store}
spec: {owner: orders, site: eu, role: shop, publishes: [order.placed], intake: {token: "file:store.token", rate: 1000000, burst: 1000000}}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: erp}
spec: {owner: orders, site: hq, role: erp, webhook: {url: "https://erp.example.com/in", secret: "file:erp.secret"}}
---
apiVersion: crossdock/v1
kind: Route
metadata: {name: orders-to-erp}
spec:
  owner: orders
  from: {type: order.placed.v1, when: '.data.currency == "EUR"'}
  to: [{system: erp, when: '.region == "eu"'}]
`

const thirtyData = `{"orderId":"SO-2026-004711","orderedAt":"2026-05-04T10:15:30.250Z","requestedBy":"2026-05-11","channel":"web","currency":"EUR",` +
	`"priority":3,"weight":12.75,"gift":false,"note":"Please ring twice",` +
	`"customer":{"id":"CU-10023","name":"Blauer See Delikatessen","email":"hanna.moos@example.com"},` +
	`"shipTo":{"name":"Hanna Moos","street":"Forsterstr. 57","city":"Mannheim","postalCode":"68306","country":"DE"},` +
	`"billTo":{"name":"Blauer See Delikatessen","street":"Hafenweg 3","city":"Mannheim","postalCode":"68159","country":"DE"},` +
	`"lines":[{"lineId":1,"sku":"CHAI-10x20","quantity":"12","unit":"C62","unitPrice":"18.00"},` +
	`{"lineId":2,"sku":"CHANG-24x12","quantity":"10","unit":"C62","unitPrice":"19.00"}],` +
	`"freight":"29.46","discount":"0.00","tax":"77.14","total":"512.60"}`

func thirtyEvent(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/eu/store","type":"order.placed.v1","time":"2026-05-04T10:15:31Z","datacontenttype":"application/json","data":%s}`, id, thirtyData)
}

// thirty is the policy with that contract, and what the door derives of it.
func thirty(t testing.TB) (*view, *policy.System) {
	t.Helper()
	set, problems := policy.Compile(policy.Bundle{
		"policy.yaml": []byte(thirtyPolicy), "order-30.json": thirtyFields,
		"order-1.0.json": []byte(fmt.Sprintf(orderSchema, "")), "order-1.1.json": []byte(fmt.Sprintf(orderSchema, `,"lines"`)), "any.json": []byte(`{}`),
	})
	if set == nil {
		t.Fatal(problems)
	}
	return &view{set: set, router: routing.New(set, "eu")}, set.Systems["store"]
}

func BenchmarkStages(b *testing.B) {
	v, store := thirty(b)
	ctx, body := context.Background(), []byte(thirtyEvent("1"))
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	e, err := event.Unmarshal(body)
	must(err)
	c, version, err := v.set.Resolve(e.Type, e.DataSchema)
	must(err)
	decoded, err := expr.Decode(e.Data)
	must(err)
	for _, stage := range []struct {
		name string
		run  func()
	}{
		{"parse", func() { // and decode
			if _, p := parse(structuredMode, http.Header{}, body); p != nil {
				err = p
			}
		}},
		{"decode", func() { _, err = expr.Decode(e.Data) }},
		{"validate", func() {
			if violations := version.ValidateDecoded(decoded); len(violations) > 0 {
				err = fmt.Errorf("%v", violations)
			}
		}},
		{"key", func() { _, err = c.Key.String(ctx, decoded) }},
		{"route", func() {
			if targets := v.router.Decide(ctx, e, decoded, store); len(targets) != 1 || targets[0].Fault != "" {
				err = fmt.Errorf("%v", targets)
			}
		}},
		{"marshal", func() { _, err = e.MarshalDecoded() }},
	} {
		b.Run(stage.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if stage.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAdmit is all stages as the door runs them.
func BenchmarkAdmit(b *testing.B) {
	v, store := thirty(b)
	events := make([]string, 100)
	for i := range events {
		events[i] = thirtyEvent(fmt.Sprint(i))
	}
	for _, m := range []struct {
		name string
		mode mode
		body []byte
		n    int
	}{
		{"structured", structuredMode, []byte(events[0]), 1},
		{"batch", batchMode, []byte("[" + strings.Join(events, ",") + "]"), len(events)},
	} {
		b.Run(m.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				parsed, p := parse(m.mode, http.Header{}, m.body)
				if p != nil {
					b.Fatal(p)
				}
				for _, e := range parsed {
					if _, p := v.admit(b.Context(), store, e); p != nil {
						b.Fatal(p)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*m.n), "ns/event")
		})
	}
}

// What is ordinary is read in one pass, and decoded in it.
func TestOrdinaryRequestsAreReadAtOnce(t *testing.T) {
	h := http.Header{}
	for i, list := 0, binaryHeaders("1"); i < len(list); i += 2 {
		h.Add(list[i], list[i+1])
	}
	for m, body := range map[mode]string{
		binaryMode: thirtyData, structuredMode: thirtyEvent("1"), batchMode: "[" + thirtyEvent("1") + "," + thirtyEvent("2") + "]",
	} {
		events, ok := parseAtOnce(m, h, []byte(body))
		if !ok || len(events) == 0 {
			t.Fatalf("%s: the request was not read at once", m)
		}
		for _, e := range events {
			if !e.Decoded || string(e.Data) != thirtyData {
				t.Errorf("%s: the data was not decoded, or is %s", m, e.Data)
			}
		}
	}
}
