// Package packages owns what is installed beside the programs, and carries what is said of it in the programs.
//
// It refuses to know how packages are made; scripts/release does. Its invariant: the text is the one that stands here.
package packages

import _ "embed" // for the text

// README is the documentation of the packages, which both programs print as a help topic.
//
//go:embed README.md
var README string
