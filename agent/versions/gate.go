package versions

import (
	"fmt"
	"time"
)

// settling is the part of the gate's time after which a start counts for nothing any more.
const settling = 10

// patience is how long nodes may take connections and answer nothing before that counts as
// the fault of the version. Far more often it is not: a load balancer whose nodes are gone, or a
// node that hangs, looks just like that. Somebody sees to those within a day, and the site goes
// on alone meanwhile; a version that cannot shake hands any more is left after it.
const patience = 24 * time.Hour

// patienceKept is the part of patience that may be lost when the process ends: where a site is
// switched off every night, the time adds up over the days.
const patienceKept = 48

// Line is what stands between a version and its first session with the control plane.
type Line int

// What it may be. Only the last two can be the fault of the version.
const (
	Cut     Line = iota // no node can be reached
	Busy                // a node answers, and can serve nobody now
	Barred              // a node refuses this agent: the version before would fare no better
	Silent              // a node takes connections, and gives no answer that counts
	Refused             // a node refuses what this version says
)

// Health is what a version on trial is judged by.
type Health struct {
	// Fault is what does not work of what must work on a site that is cut off too; empty: nothing.
	Fault string
	// Linked says that the control plane has accepted a hello of this process.
	Linked bool
	// Line is what it has come to otherwise.
	Line Line
	// Link is why there is no session, for people.
	Link string
}

// gate judges a version on trial. Time counts against it only while something is wrong that
// the version can be blamed for: a line that is cut holds the gate and fails nobody, and so
// does a control plane that is out of order.
type gate struct {
	limit    time.Duration
	patience time.Duration
	sick     time.Duration // without what must work; time that it works makes good for as much
	calm     time.Duration // works, without a break
	refused  time.Duration // works, and a node refuses what it says
	silent   time.Duration // works, and nodes give no answer; any answer makes good for it
}

// look takes in what was seen over a time. It gives why the trial has failed, or what it still
// waits for; neither: it is passed.
func (g *gate) look(h Health, over time.Duration) (failed, waits string) {
	if h.Fault != "" {
		g.calm = 0
		if g.sick += over; g.sick >= g.limit {
			return fmt.Sprintf("did not work within %v: %s", g.limit, h.Fault), ""
		}
		return "", h.Fault
	}
	g.calm, g.sick = g.calm+over, max(0, g.sick-over)
	if h.Linked {
		return "", ""
	}
	switch h.Line {
	case Cut:
	case Busy:
		g.silent = 0
		return "", "works, and waits for the control plane, which answers and cannot serve now: " + h.Link
	case Barred:
		g.silent = 0
		return "", "works, and waits until the control plane lets this agent in again, which it refuses whatever version runs: " + h.Link
	case Refused:
		g.silent = 0
		if g.refused += over; g.refused >= g.limit {
			return fmt.Sprintf("the control plane has refused it for %v: %s", g.limit, h.Link), ""
		}
		return "", fmt.Sprintf("works, and the control plane refuses it, for %s of %v: %s", g.refused.Round(time.Second), g.limit, h.Link)
	case Silent:
		if g.silent += over; g.silent >= g.patience {
			return fmt.Sprintf("the control plane can be reached, and has given it no answer for %v: %s", g.patience, h.Link), ""
		}
		return "", fmt.Sprintf("works, and waits for an answer: a node takes connections and gives none that counts, for %s of %v: %s",
			g.silent.Round(time.Second), g.patience, h.Link)
	}
	return "", "works, and waits for the line to the control plane: " + h.Link
}

// settled says that this start has shown that the version works as far as it can without a
// line: whatever ends the process now, it was not the start.
func (g *gate) settled() bool { return g.calm >= g.limit/settling }

// kept says that what counts as silence has changed by enough to be written, since so much was.
func (g *gate) kept(written time.Duration) bool {
	return g.silent-written >= g.patience/patienceKept || g.silent < written
}
