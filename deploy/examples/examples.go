// Package examples owns the configuration files and policies that a newcomer copies, and carries the
// table of all keys in the programs.
//
// It refuses to know what the keys do. Its invariant: the files are what the programs' structs say.
package examples

import _ "embed" // for the text

// Configuration is the table of all keys, which both programs print as a help topic.
//
//go:embed CONFIGURATION.md
var Configuration string
