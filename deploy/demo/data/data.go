// Package data owns the demo's sample files, embedded: the Northwind trading company. See
// NOTICE for where they come from.
//
// It refuses to know what the files mean. Its invariant: they are byte for byte as published.
package data

import "embed"

// Files holds the CSV files by name, such as orders.csv.
//
//go:embed *.csv
var Files embed.FS
