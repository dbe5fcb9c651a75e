package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem stops a policy.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Problem is one finding about a bundle, with its place and what to do about it.
type Problem struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column,omitempty"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}

// String writes a problem as compilers do: file:line:column: severity: message (hint).
func (p Problem) String() string {
	file := p.File
	if file == "" {
		file = "policy"
	}
	text := fmt.Sprintf("%s:%d:%d: %s: %s", file, p.Line, p.Column, p.Severity, p.Message)
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// Problems is everything found about a bundle, ordered by place.
type Problems []Problem

// maxProblems bounds what is found about one bundle. Nobody reads more, and each may cost
// a search for what was meant.
const maxProblems = 500

// full says that looking further is of no use.
func (p *Problems) full() bool { return len(*p) > maxProblems }

// add appends a finding, an error unless it says otherwise. Beyond the limit only the first
// error counts, which says so.
func (p *Problems) add(one Problem) {
	if len(*p) >= maxProblems {
		if p.full() || one.Severity == SeverityWarning {
			return
		}
		one = Problem{File: one.File, Line: one.Line, Column: one.Column, Message: fmt.Sprintf("there are more than %d problems; the rest is not shown", maxProblems)}
	}
	if one.Severity == "" {
		one.Severity = SeverityError
	}
	one.Line, one.Column = max(one.Line, 1), max(one.Column, 1)
	*p = append(*p, one)
}

func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column)
	})
}

// Failed says whether any of them stops the policy.
func (p Problems) Failed() bool {
	for _, one := range p {
		if one.Severity == SeverityError {
			return true
		}
	}
	return false
}

// Error joins the problems, one a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}
