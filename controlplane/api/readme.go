package api

import _ "embed" // for the text

// APIReference is the API of the control plane, which the program prints as a help topic.
//
//go:embed API.md
var APIReference string
