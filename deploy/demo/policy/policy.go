// Package policy holds the demo's policy as files: contracts with their schemas, sites,
// systems, routes with their maps, and a journey. It is what an installation would keep in
// git; the programs read it as a folder and know nothing of this package.
package policy

import "embed"

// Files is the folder.
//
//go:embed *.yaml maps schemas
var Files embed.FS
