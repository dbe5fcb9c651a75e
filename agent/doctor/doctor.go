// Package doctor owns the questions that a person asks first when a site does not work:
// can the control plane be reached over UDP and TCP, is the clock right, is the disk fit
// and quick enough, is the certificate good, is there a policy, does each system answer.
//
// It refuses to repair anything and to know how the agent works; what it needs is handed
// to it. Its invariant: every finding says what was seen and, unless all is well, what to
// do and where to read on; what could not be looked at is never reported as well.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is the outcome of one check.
type Finding struct {
	ID    string `json:"id"`
	Level Level  `json:"level"`
	Seen  string `json:"seen"`
	Todo  string `json:"todo,omitempty"`
	Doc   string `json:"doc,omitempty"` // topic of crossdock-agent help
}

// ReportVersion is the version of the shape of Report. It rises when a field changes its
// meaning or goes; a new field does not raise it.
const ReportVersion = 1

// Report is all that was found, as programs read it.
type Report struct {
	Version   int       `json:"version"`
	Agent     string    `json:"agent,omitempty"` // empty: not enrolled
	Site      string    `json:"site,omitempty"`
	Program   string    `json:"program"` // version of the program that looked
	At        time.Time `json:"at"`
	Worst     Level     `json:"worst"`
	Summary   string    `json:"summary"`
	Findings  []Finding `json:"findings"`
	NotTested []string  `json:"notTested"`
}

// NewReport sums findings up and gives each its runbook.
func NewReport(program string, at time.Time, findings []Finding) Report {
	r := Report{Version: ReportVersion, Program: program, At: at.UTC(), Worst: Worst(findings), Summary: Summary(findings),
		Findings: make([]Finding, len(findings)), NotTested: NotTested()}
	for i, f := range findings {
		if f.Doc == "" {
			f.Doc = Runbook(f.ID)
		}
		r.Findings[i] = f
	}
	return r
}

// NotTested is what a person must not take for tested because all is well here.
func NotTested() []string {
	return []string{
		"whether other machines of the site reach intake: only this machine knocks at its own ports",
		"whether a system takes what is sent to it: no event is sent, and a password or bearer token is not shown; with OAuth2 a token is fetched",
		"the data in the systems: whether both sides agree is what reconciliation compares",
		"capacity under load, and how the line behaves over hours",
		"whether a carrier or a tax engine answers: a plugin is only seen to serve, or to be the program that policy names",
		"this clock against a time server, unless doctor.ntp names one or systemd-timesyncd keeps it",
		"stored data beyond the newest files, as far as a few seconds reach: crossdock-agent queue verify reads all of the journal",
		"permissions on Windows beyond opening what is needed",
	}
}

// Unseen is what is not tested besides when who asks may not look at the agent's data.
func Unseen() []string {
	return []string{
		"the data directory, its disk and stores, and the secrets: they are not for the user who asks",
		"the certificate, and the ways to the control plane, which need it",
		"policy, systems, plugins and numbers, and what waits: only the agent's data tells of them",
	}
}

// Worst is the worst level among findings.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		if f.Level == Fail || f.Level == Warn && worst == OK {
			worst = f.Level
		}
	}
	return worst
}

// Plain puts an error into one line, and one that only says that time ran out into words.
func Plain(err error, took time.Duration) string {
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("no answer within %s", max(took.Round(time.Second), time.Second))
	}
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// Summary counts what is not well.
func Summary(findings []Finding) string {
	failed, warnings := 0, 0
	for _, f := range findings {
		switch f.Level {
		case Fail:
			failed++
		case Warn:
			warnings++
		}
	}
	return fmt.Sprintf("%d failed, %s", failed, Count(warnings, "warning"))
}

// Count says how many there are of what one is called: 1 warning, 2 warnings.
func Count[N int | int64 | uint64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
