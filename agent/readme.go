package agent

import _ "embed" // for the text

// MetricsReference is what the agent measures, which the program prints as a help topic.
//
//go:embed METRICS.md
var MetricsReference string
