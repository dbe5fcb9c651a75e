package ops

import _ "embed" // for the text

// APIReference is what the operators' door answers, which the program prints as a help topic.
//
//go:embed API.md
var APIReference string
