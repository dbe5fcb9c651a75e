// Package house keeps the rules of the tree: which package may import which, that every
// package says what it owns, and how large a file and a function may grow.
//
// It holds tests only, and it reads the sources with go/parser instead of asking the go
// command, so that its answer is never a cached one for other sources.
package house
