package controlplane

import _ "embed" // for the text

// MetricsReference is what a node measures, which the program prints as a help topic.
//
//go:embed METRICS.md
var MetricsReference string
