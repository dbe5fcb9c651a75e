package versions

import (
	"fmt"
	"time"
)

// settling is the part of the gate's time after which a start counts for nothing any more.
const settling = 10

// Health is what a version on trial is judged by.
type Health struct {
	// Fault is what does not work of what must work on a site that is cut off too; empty: nothing.
	Fault string
	// Linked says that the control plane has accepted a hello of this process.
	Linked bool
	// Reachable says that a node of the control plane answers on the network, so that it is not
	// the line if no hello gets through.
	Reachable bool
	// Link is why there is no session, for people.
	Link string
}

// gate judges a version on trial. Time counts against it only while something is wrong that
// the version can be blamed for: a line that is cut holds the gate and fails nobody.
type gate struct {
	limit time.Duration
	sick  time.Duration // without what must work; time that it works makes good for as much
	calm  time.Duration // works, without a break
	dark  time.Duration // works, a node can be reached, and no hello is accepted
}

// look takes in what was seen over a time. It gives why the trial has failed, or what it still
// waits for; neither: it is passed.
func (g *gate) look(h Health, over time.Duration) (failed, waits string) {
	if h.Fault == "" {
		g.calm, g.sick = g.calm+over, max(0, g.sick-over)
	}
	switch {
	case h.Fault != "":
		g.calm = 0
		if g.sick += over; g.sick >= g.limit {
			return fmt.Sprintf("did not work within %v: %s", g.limit, h.Fault), ""
		}
		return "", h.Fault
	case h.Linked:
		return "", ""
	case !h.Reachable:
		return "", "works, and waits for the line to the control plane: " + h.Link
	}
	if g.dark += over; g.dark >= g.limit {
		return fmt.Sprintf("the control plane can be reached, and has accepted no session for %v: %s", g.limit, h.Link), ""
	}
	return "", "waits for a session with the control plane: " + h.Link
}

// settled says that this start has shown that the version works as far as it can without a
// line: whatever ends the process now, it was not the start.
func (g *gate) settled() bool { return g.calm >= g.limit/settling }
