package main

import _ "embed" // for the text

// commandsReference is what the commands say of themselves, which the program prints as a help topic.
//
//go:embed COMMANDS.md
var commandsReference string
