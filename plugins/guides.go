// Package plugins owns the guides to our plugins, and to writing one, as the programs print them.
//
// It refuses to know any plugin's code. Its invariant: each guide is the README.md in the folder of its plugin.
package plugins

import (
	"embed"
	"io/fs"
	"path"
)

//go:embed */README.md
var files embed.FS

// guideToWriting is the name of the guide that is of no single plugin.
const guideToWriting = "plugin-guide"

// Guides gives each guide by the name of its plugin, and plugin-guide.
func Guides() map[string]string {
	names, err := fs.Glob(files, "*/README.md")
	if err != nil {
		panic(err) // the pattern is right
	}
	guides := map[string]string{}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err) // the file is part of the program
		}
		of := path.Dir(name)
		if of == "sdk" {
			of = guideToWriting
		}
		guides[of] = string(text)
	}
	return guides
}
