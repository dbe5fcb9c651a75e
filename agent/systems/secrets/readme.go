package secrets

import _ "embed" // for the text

// README is the documentation beside this code, which the program prints as a help topic.
//
//go:embed README.md
var README string
