// Package policy_test keeps the demo's policy clean, and true to the demo's data.
package policy_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/routing"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
	"github.com/crossdock/crossdock/protocol/contract"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

func compiled(t *testing.T) *policy.Set {
	t.Helper()
	bundle, err := policy.ReadBundle(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	set, problems := policy.Compile(bundle)
	if set == nil {
		t.Fatal(problems)
	}
	return set
}

func TestClean(t *testing.T) {
	bundle, err := policy.ReadBundle(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	_, problems := policy.Compile(bundle)
	for _, p := range problems { // a warning is a fault here too
		t.Error(p)
	}
	if got := len(bundle.Encode()); got > policy.MaxBundle {
		t.Errorf("the bundle has %d bytes, the limit is %d", got, policy.MaxBundle)
	}
}

func company(t *testing.T) *northwind.Company {
	t.Helper()
	c, err := northwind.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func version(t *testing.T, set *policy.Set, name, semver string) *contract.Version {
	t.Helper()
	for _, v := range set.Contracts[name].Versions {
		if v.Semver == semver {
			return v
		}
	}
	t.Fatalf("no version %s of %s", semver, name)
	return nil
}

func TestWholePolicy(t *testing.T) {
	set := compiled(t)
	for _, count := range []struct {
		what      string
		got, want int
	}{
		{"contracts", len(set.Contracts), 7}, {"sites", len(set.Sites), 4}, {"systems", len(set.Systems), 8},
		{"routes", len(set.Routes), 11}, {"plugins", len(set.Plugins), 6}, {"ranges", len(set.Ranges), 1}, {"journeys", len(set.Journeys), 1},
		{"milestones", len(set.Journeys["order"].Milestones), 7},
	} {
		if count.got != count.want {
			t.Errorf("%s: got %d, want %d", count.what, count.got, count.want)
		}
	}
}

// The demo's systems listen where the policy says, each on a port of its own, below those
// that an operating system hands out.
func TestPorts(t *testing.T) {
	want := map[string]string{
		"shop-eu": "17101", "wms-eu": "17102", "shop-na": "17201", "wms-na": "17202",
		"shop-latam": "17301", "wms-latam": "17302", "erp": "17001", "crm": "17002",
	}
	for name, system := range compiled(t).Systems {
		u, err := url.Parse(system.HTTP.URL)
		if err != nil || u.Host != "127.0.0.1:"+want[name] {
			t.Errorf("%s is at %s, want port %s", name, system.HTTP.URL, want[name])
		}
		if got := system.HTTP.Auth.Bearer; got != "file:"+name+".deliver.token" {
			t.Errorf("%s is called with %s", name, got)
		}
		if got := system.Intake.Token; len(system.Publishes) > 0 && got != "file:"+name+".token" {
			t.Errorf("%s calls with %s", name, got)
		}
	}
}

// Every field of every schema names its place in UBL.
func TestFieldsAreAnnotated(t *testing.T) {
	for name, c := range compiled(t).Contracts {
		for _, v := range c.Versions {
			var schema map[string]any
			if err := json.Unmarshal(v.Schema, &schema); err != nil {
				t.Fatal(err)
			}
			walk(t, name+" "+v.Semver, schema)
		}
	}
}

func walk(t *testing.T, place string, schema map[string]any) {
	if items, ok := schema["items"].(map[string]any); ok {
		walk(t, place+"/*", items)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, p := range properties {
		property := p.(map[string]any)
		if property["x-ubl"] == nil || property["description"] == nil {
			t.Errorf("%s/%s has no x-ubl or no description", place, name)
		}
		if kind := property["type"]; kind == "number" {
			t.Errorf("%s/%s is a binary fraction: use a decimal string", place, name)
		}
		if name != "extensions" {
			walk(t, place+"/"+name, property)
		}
	}
}

func TestEveryOrderIsValid(t *testing.T) {
	set := compiled(t)
	newest, older := version(t, set, "order.captured", "1.1.0"), version(t, set, "order.captured", "1.0.0")
	orders := company(t).Orders
	if len(orders) != 830 {
		t.Fatalf("got %d orders, want 830", len(orders))
	}
	for i := range orders {
		captured := orders[i].Captured()
		decoded := valid(t, newest, northwind.JSON(captured))
		if got := key(t, set, "order.captured", decoded); got != orders[i].ID {
			t.Errorf("order %s: key %q", orders[i].ID, got)
		}
		captured.Carrier = nil // what 1.1.0 added
		valid(t, older, northwind.JSON(captured))
	}
}

// patiently evaluates again what ran out of time: these tests are not about the machine.
func patiently[T any](t *testing.T, eval func() (T, error)) T {
	t.Helper()
	for n := 0; ; n++ {
		out, err := eval()
		if err == nil {
			return out
		}
		if n == 20 || !errors.Is(err, expr.ErrLimit) {
			t.Fatal(err)
		}
	}
}

func key(t *testing.T, set *policy.Set, name string, decoded any) string {
	t.Helper()
	return patiently(t, func() (string, error) { return set.Contracts[name].Key.String(t.Context(), decoded) })
}

func valid(t *testing.T, v *contract.Version, data []byte) any {
	t.Helper()
	decoded, violations, err := v.Validate(data)
	for n := 0; n < 20 && len(violations) == 1 && violations[0].Path == "" && violations[0].Rule == "pattern"; n++ {
		violations = v.ValidateDecoded(decoded) // a pattern ran out of time: the machine stood still
	}
	if err != nil || len(violations) > 0 {
		t.Fatalf("%s: %v %v\n%s", v.URI(), err, violations, data)
	}
	return decoded
}

func TestOtherMessagesAreValid(t *testing.T) {
	set, c := compiled(t), company(t)
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.FixedZone("", 2*3600))
	for i := range c.Orders[:50] {
		captured := c.Orders[i].Captured()
		valid(t, version(t, set, "order.accepted", "1.0.0"), northwind.JSON(captured.Accepted(at)))
		for _, step := range northwind.Steps() {
			valid(t, version(t, set, "shipment.milestone", "1.0.0"), northwind.JSON(captured.Milestone(step, "eu", at)))
		}
	}
	for _, p := range c.Products {
		decoded := valid(t, version(t, set, "inventory.position", "1.0.0"), northwind.JSON(p.Position("eu", p.InStock, p.InStock+1, 1, at)))
		if got := key(t, set, "inventory.position", decoded); got != p.ID+"@eu" {
			t.Errorf("product %s: key %q", p.ID, got)
		}
	}
}

func TestInvalidMessages(t *testing.T) {
	set := compiled(t)
	order := company(t).Orders[0].Captured()
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, contract string
		data           []byte
		old, new       string
		path, rule     string
	}{
		{"quantity as a number", "order.captured", northwind.JSON(order), `"quantity":"12"`, `"quantity":12`, "/lines/0/quantity", "type"},
		{"amount with an exponent", "order.captured", northwind.JSON(order), `"netAmount":"168.00"`, `"netAmount":"1e2"`, "/lines/0/netAmount", "pattern"},
		{"negative price", "order.captured", northwind.JSON(order), `"unitPrice":"14.00"`, `"unitPrice":"-14.00"`, "/lines/0/unitPrice", "pattern"},
		{"country by name", "order.captured", northwind.JSON(order), `"country":"FR"`, `"country":"France"`, "/shipTo/country", "pattern"},
		{"discount beyond the whole", "order.captured", northwind.JSON(order), `"discount":"0"`, `"discount":"1.5"`, "/lines/0/discount", "pattern"},
		{"no such day", "order.captured", northwind.JSON(order), `"requestedBy":"1996-08-01"`, `"requestedBy":"1996-02-31"`, "/requestedBy", "format"},
		{"unknown field", "order.captured", northwind.JSON(order), `"currency"`, `"curency":"USD","currency"`, "/curency", "additionalProperties"},
		{"unknown status", "order.accepted", northwind.JSON(order.Accepted(at)), `"accepted"`, `"perhaps"`, "/status", "enum"},
		{"dispatch without tracking", "shipment.milestone", northwind.JSON(order.Milestone(northwind.Shipping, "eu", at)), `"trackingNumber"`, `"extensions":{},"was"`, "/trackingNumber", "required"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := strings.Replace(string(tt.data), tt.old, tt.new, 1)
			if data == string(tt.data) {
				t.Fatalf("nothing to replace in %s", data)
			}
			versions := set.Contracts[tt.contract].Versions
			_, violations, err := versions[len(versions)-1].Validate([]byte(data))
			if err != nil || !slices.ContainsFunc(violations, func(v contract.Violation) bool { return v.Path == tt.path && v.Rule == tt.rule }) {
				t.Errorf("got %v, %v, want %s at %s", violations, err, tt.rule, tt.path)
			}
		})
	}
}

// An order goes to the ERP and the CRM at head office and to its own region's warehouse;
// what comes back goes where the order came from.
func TestRouting(t *testing.T) {
	set, c := compiled(t), company(t)
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for i := range c.Orders[:40] {
		order := c.Orders[i].Captured()
		region := order.SalesRegion
		for _, tt := range []struct {
			typ, site, system string
			data              []byte
			want              []string
		}{
			{"order.captured.v1", region, "shop-" + region, northwind.JSON(order),
				[]string{"hq/crm/orders-to-crm", "hq/erp/orders-to-erp", region + "/wms-" + region + "/orders-to-wms"}},
			{"order.accepted.v1", "hq", "erp", northwind.JSON(order.Accepted(at)),
				[]string{"hq/crm/answers-to-crm", region + "/shop-" + region + "/answers-to-shops"}},
			{"shipment.milestone.v1", region, "wms-" + region, northwind.JSON(order.Milestone(northwind.Picking, region, at)),
				[]string{"hq/erp/milestones-to-erp"}},
			{"shipment.milestone.v1", region, "wms-" + region, northwind.JSON(order.Milestone(northwind.Shipping, region, at)),
				[]string{"hq/crm/dispatches-to-crm", "hq/erp/milestones-to-erp"}},
		} {
			_, v, err := set.Resolve(tt.typ, "")
			if err != nil {
				t.Fatal(err)
			}
			e := &event.Event{ID: "1", Source: "/" + tt.system, Type: tt.typ, Data: tt.data}
			var got []string
			for _, target := range routing.New(set, tt.site).Decide(t.Context(), e, valid(t, v, tt.data), set.Systems[tt.system]) {
				if target.Fault != "" {
					t.Error(target.Fault)
				}
				got = append(got, target.Agent+"/"+target.System+"/"+target.Route)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("order %s, %s from %s: got %v, want %v", order.OrderID, tt.typ, tt.system, got, tt.want)
			}
		}
	}
}

// What a site's agent tells of its calls goes to the ERP, and an order's tax and label have
// the key of the order.
func TestRoutingOfCalls(t *testing.T) {
	set := compiled(t)
	papers := `"documents":[{"kind":"label","format":"zpl","sha256":"` + strings.Repeat("a", 64) + `","size":9}]`
	for _, tt := range []struct{ contract, data, key, route string }{
		{"tax.finalised", `{"reference":"10250","call":"c","engine":"tax-latam","status":"not_calculated","currency":"USD","net":"1552.60","tax":null,"gross":null,"adjusted":false}`,
			"10250", "taxes-to-erp"},
		{"shipment.label-created", `{"reference":"10250","call":"c","carrier":"fleet-latam","shipment":"NW000000001","service":"parcel","return":false,` +
			`"parcels":[{"tracking":"NW000000001"}],"price":{"amount":"36.11","currency":"BRL"},` + papers + `}`, "10250", "labels-to-erp"},
		{"shipment.manifested", `{"reference":"latam-0001","call":"c","carrier":"fleet-latam","manifest":"M1","shipments":["10250"],"parcels":1,` + papers + `}`,
			"latam-0001", "manifests-to-erp"},
	} {
		decoded := valid(t, version(t, set, tt.contract, "1.0.0"), []byte(tt.data))
		if got := key(t, set, tt.contract, decoded); got != tt.key {
			t.Errorf("%s: key %q, want %q", tt.contract, got, tt.key)
		}
		own := &policy.System{Meta: policy.Meta{Name: policy.AgentRole}, Site: "latam", Role: policy.AgentRole, Publishes: []string{tt.contract}}
		e := &event.Event{ID: "1", Source: "/sites/latam/calls", Type: tt.contract + ".v1", Data: []byte(tt.data)}
		targets := routing.New(set, "latam").Decide(t.Context(), e, decoded, own)
		if len(targets) != 1 || targets[0].Agent != "hq" || targets[0].System != "erp" || targets[0].Route != tt.route || targets[0].Fault != "" {
			t.Errorf("%s: got %+v, want %s", tt.contract, targets, tt.route)
		}
	}
}

// What the CRM is told comes out of every order.
func TestMaps(t *testing.T) {
	set, c := compiled(t), company(t)
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	discounts := 0
	for i := range c.Orders {
		order := c.Orders[i].Captured()
		got := mapped(t, set, "orders-to-crm", "order.captured", northwind.JSON(order))
		if got["reference"] != order.OrderID || got["amount"] != order.PayableAmount || got["customerId"] != order.Customer.ID {
			t.Errorf("got %v", got)
		}
		if got["discountGiven"] == true {
			discounts++
		}
	}
	if discounts != 380 {
		t.Errorf("%d orders with a discount, want 380", discounts)
	}
	order := c.Orders[0].Captured()
	if got := mapped(t, set, "answers-to-crm", "order.accepted", northwind.JSON(order.Accepted(at))); got["activity"] != "order-accepted" || got["summary"] != "ERP order SO-10248" {
		t.Errorf("got %v", got)
	}
	if got := mapped(t, set, "dispatches-to-crm", "shipment.milestone", northwind.JSON(order.Milestone(northwind.Shipping, "eu", at))); got["trackingNumber"] != "NW10248X3" || got["carrier"] != "Federal Shipping" {
		t.Errorf("got %v", got)
	}
}

func mapped(t *testing.T, set *policy.Set, route, name string, data []byte) map[string]any {
	t.Helper()
	versions := set.Contracts[name].Versions
	decoded := valid(t, versions[len(versions)-1], data)
	for _, r := range set.Routes {
		if r.Name != route {
			continue
		}
		return patiently(t, func() (any, error) { return r.To[0].Map.Eval(t.Context(), decoded) }).(map[string]any)
	}
	t.Fatalf("no route %s", route)
	return nil
}

// TestSchemasOfCalls: what agents tell of their calls has the schemas of the examples; the demo
// adds where each field stands in UBL, and nothing else.
func TestSchemasOfCalls(t *testing.T) {
	const examples = "../../examples/calls"
	read := func(path string) any {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var schema any
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return plain(schema)
	}
	files, err := os.ReadDir("schemas")
	if err != nil {
		t.Fatal(err)
	}
	both := 0
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(examples, f.Name())); err != nil {
			continue // the demo's own
		}
		both++
		if ours, theirs := read(filepath.Join("schemas", f.Name())), read(filepath.Join(examples, f.Name())); !reflect.DeepEqual(ours, theirs) {
			t.Errorf("schemas/%s differs from that in deploy/examples/calls", f.Name())
		}
	}
	if both < 3 {
		t.Errorf("%d schemas of calls were found in both places", both)
	}
}

// plain is a schema without the notes for UBL.
func plain(schema any) any {
	switch v := schema.(type) {
	case map[string]any:
		delete(v, "x-ubl")
		for k := range v {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	}
	return schema
}
