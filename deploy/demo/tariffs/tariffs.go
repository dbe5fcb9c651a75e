// Package tariffs holds what the demo's carriers charge, as tables that the carrier-zone
// plugin reads: one for each region and year, dated. All rates are examples.
//
// It refuses to know who reads them. The demo's audit has the same rates written down a
// second time, by hand and in another form.
package tariffs

import "embed"

// Files holds the tables by name, such as eu-2026.yaml.
//
//go:embed *.yaml
var Files embed.FS
