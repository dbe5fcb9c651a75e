package material

import (
	"fmt"
	"strings"
)

// Further counts documents of policy beside those that the orders need. None of them says
// where an order goes, so that what they cost is the cost of their being there.
type Further struct {
	Sites     int // without systems: their agents have only sessions
	Contracts int
	Routes    int // for orders, that apply to none
	Journeys  int // of orders
}

// fileDocuments is how many documents one file has: fewer than a file may.
const fileDocuments = 500

// SiteName of a further site.
func SiteName(i int) string { return fmt.Sprintf("site-%05d", i) }

// Files are the documents as files of a folder of policy.
func (f Further) Files() map[string]string {
	out := map[string]string{}
	write := func(kind string, count int, spec func(i int) string) {
		for first := 0; first < count; first += fileDocuments {
			var b strings.Builder
			for i := first; i < min(first+fileDocuments, count); i++ {
				fmt.Fprintf(&b, "---\napiVersion: crossdock/v1\nkind: %s\n%s\n", kind, spec(i))
			}
			out[fmt.Sprintf("further-%s-%d.yaml", strings.ToLower(kind), first/fileDocuments)] = strings.TrimPrefix(b.String(), "---\n")
		}
	}
	write("Site", f.Sites, func(i int) string {
		return fmt.Sprintf("metadata: {name: %s}\nspec: {owner: bench, region: eu}", SiteName(i))
	})
	write("Contract", f.Contracts, func(i int) string {
		return fmt.Sprintf("metadata: {name: order.further%d}\nspec: {owner: bench, authority: shop, key: .orderId, versions: [{version: 1.1.0, state: active, schema: %s}]}", i, schemaFile)
	})
	write("Route", f.Routes, func(i int) string {
		return fmt.Sprintf("metadata: {name: further-%d}\nspec: {owner: bench, from: {type: %s, when: '.data.salesRegion == \"no-%d\"'}, to: [{system: erp}]}", i, Type, i)
	})
	write("Journey", f.Journeys, func(i int) string {
		return fmt.Sprintf("metadata: {name: further-%d}\nspec: {owner: bench, object: order, milestones: [{name: captured, type: %s}, {name: again, type: %s, after: captured, within: 15m}]}", i, Type, Type)
	})
	return out
}

// ShopsSite is the second site with shops; its region is RegionFar.
const (
	ShopsSite  = "shop-na"
	RegionNear = "eu"
	RegionFar  = "na"
)

// ShopName of a shop of a region.
func ShopName(region string, i int) string { return fmt.Sprintf("shop-%s-%d", region, i) }

// Shops are documents of further shops, so many in each of two regions, each with a limit,
// and the secrets by which they are known.
func Shops(each int, rate float64, burst int) (files, secrets map[string]string) {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: %s}\nspec: {owner: bench, region: %s}\n", ShopsSite, RegionFar)
	secrets = map[string]string{}
	for _, at := range []struct{ region, site string }{{RegionNear, ShopSite}, {RegionFar, ShopsSite}} {
		for i := range each {
			name := ShopName(at.region, i)
			fmt.Fprintf(&b, "---\napiVersion: crossdock/v1\nkind: System\nmetadata: {name: %s}\nspec:\n  owner: bench\n  site: %s\n  role: shop\n"+
				"  publishes: [order.captured]\n  intake: {token: \"file:%s.token\", rate: %g, burst: %d}\n", name, at.site, name, rate, burst)
			secrets[name+".token"] = ShopToken(name)
		}
	}
	return map[string]string{"shops.yaml": b.String()}, secrets
}

// ShopToken is what a shop shows.
func ShopToken(name string) string { return Token + "-" + name }
