// Package runbooks owns what to do when something is wrong, by symptom, and carries it in the
// programs, which say the same in an outage as when all is well.
//
// It refuses to know who asks. Its invariant: each runbook is one file here, named as its topic.
package runbooks

import "embed"

// Files are the runbooks, one Markdown file each.
//
//go:embed *.md
var Files embed.FS
