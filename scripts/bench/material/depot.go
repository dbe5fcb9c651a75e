package material

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
)

// The depot is a site with a carrier and a tax engine beside its agent, and one system that
// calls them.
const (
	DepotSite  = "depot"
	DepotToken = Token + "-depot"
	Carrier    = "zone"
	Taxes      = "table"
	Tracking   = "tracking" // the range of which each parcel takes a number

	// DepotFile is the file of policy with all of this.
	DepotFile = "depot.yaml"
	depotDate = "2026-11-26"
)

// Program is a plugin of the depot.
type Program struct {
	Name     string // Carrier or Taxes
	File     string
	SHA256   [32]byte
	Settings map[string]string
}

// Depot has the documents of a depot with some plugins, which may be none, and the secret by
// which its system is known.
func Depot(programs ...Program) (files, secrets map[string]string) {
	var b strings.Builder
	taxes := ""
	for _, p := range programs {
		kind := "carrier"
		if p.Name == Taxes {
			kind, taxes = "tax", p.Name
		}
		fmt.Fprintf(&b, "apiVersion: crossdock/v1\nkind: Plugin\nmetadata: {name: %s}\nspec:\n  owner: bench\n  kind: %s\n  sites: [%s]\n  program: %s\n"+
			"  sha256: {%s/%s: \"%x\"}\n  settings:\n", p.Name, kind, DepotSite, p.File, runtime.GOOS, runtime.GOARCH, p.SHA256)
		for _, name := range slices.Sorted(maps.Keys(p.Settings)) {
			fmt.Fprintf(&b, "    %s: %q\n", name, p.Settings[name])
		}
		b.WriteString("---\n")
	}
	fmt.Fprintf(&b, "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: %[1]s}\nspec: {owner: bench, region: eu, tax: [%[2]s]}\n---\n"+
		"apiVersion: crossdock/v1\nkind: System\nmetadata: {name: %[1]s}\nspec:\n  owner: bench\n  site: %[1]s\n  role: shop\n  publishes: [order.captured]\n"+
		"  intake: {token: \"file:%[1]s.token\", rate: 1000000, burst: 1000000}\n---\n"+
		"apiVersion: crossdock/v1\nkind: NumberRange\nmetadata: {name: %[3]s}\n"+
		"spec: {owner: bench, format: plain, prefix: XT, width: 9, from: 1, to: 999999999, sites: [%[1]s], block: 1000000}\n", DepotSite, taxes, Tracking)
	return map[string]string{DepotFile: b.String()}, map[string]string{DepotSite + ".token": DepotToken}
}

// TrackingNumber is a number as the range has it.
func TrackingNumber(serial int) string { return fmt.Sprintf("XT%09d", serial) }

// Shipment is one parcel, as a site's system asks for it.
func Shipment(reference string) []byte {
	return fmt.Appendf(nil, `{"reference":%q,"service":"parcel","date":%q,`+
		`"from":{"company":"Warehouse","lines":["Lagerstr. 1"],"city":"München","postalCode":"81241","country":"DE"},`+
		`"to":{"name":"Hanna Groß","lines":["Marienplatz 8"],"city":"München","postalCode":"80331","country":"DE"},`+
		`"parcels":[{"weight":{"value":"1.2","unit":"kg"}}]}`, reference, depotDate)
}

// Sale is an invoice with two lines within one country.
func Sale(reference string) []byte {
	return fmt.Appendf(nil, `{"reference":%q,"kind":"sale","date":%q,"currency":"EUR","seller":{"address":%[3]s},"customer":{"address":%[3]s},`+
		`"shipFrom":%[3]s,"shipTo":%[3]s,"lines":[{"id":"1","quantity":"1","amount":"100.00"},{"id":"2","quantity":"3","amount":"19.90"}]}`,
		reference, depotDate, `{"country":"DE","postalCode":"80331"}`)
}
