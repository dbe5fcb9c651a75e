package ledger

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Flow is what one system owes another: every event of the source that Owed picks must
// have been taken by the destination.
type Flow struct {
	Name   string
	Source string
	To     string
	Owed   func(Entry) bool
}

// Outcome is one flow's reconciliation.
type Outcome struct {
	Flow       Flow
	Owed       int
	Taken      int
	Missing    []string // ids
	Duplicated []string // taken more than once
	OutOfOrder []string // taken before an event that the source sent earlier for the same key
	Unowed     []string // taken from this source without being owed
	Repeats    int      // offered again and recognised; harmless
}

// Clean reports whether nothing is wrong.
func (o *Outcome) Clean() bool {
	return len(o.Missing)+len(o.Duplicated)+len(o.OutOfOrder)+len(o.Unowed) == 0
}

// Reconcile compares what sources sent with what destinations took.
func Reconcile(ledgers map[string][]Entry, flows []Flow) []Outcome {
	out := make([]Outcome, 0, len(flows))
	for _, flow := range flows {
		out = append(out, reconcile(ledgers[flow.Source], ledgers[flow.To], flow))
	}
	return out
}

func reconcile(source, destination []Entry, flow Flow) Outcome {
	o := Outcome{Flow: flow}
	place := map[string]int{} // of an owed event in the source's record, from 1
	types, sources := map[string]bool{}, map[string]bool{}
	var owed []Entry
	for i, e := range source {
		if e.Act == Sent && flow.Owed(e) {
			place[e.ID] = i + 1
			owed = append(owed, e)
			types[e.Type], sources[e.Source] = true, true
		}
	}
	taken := map[string]int{}
	latest := map[string]int{} // by key: place of the latest one taken
	for _, e := range destination {
		if !types[e.Type] || !sources[e.Source] {
			continue // another flow's
		}
		if e.Act == Repeat {
			o.Repeats++
			continue
		}
		if e.Act != Taken {
			continue
		}
		at := place[e.ID]
		taken[e.ID]++
		switch {
		case at == 0:
			o.Unowed = append(o.Unowed, e.ID)
		case taken[e.ID] > 1:
			o.Duplicated = append(o.Duplicated, e.ID)
		case at < latest[e.Key]:
			o.OutOfOrder = append(o.OutOfOrder, e.ID)
		}
		latest[e.Key] = max(latest[e.Key], at)
	}
	o.Owed = len(owed)
	for _, e := range owed {
		if taken[e.ID] == 0 {
			o.Missing = append(o.Missing, e.ID)
		} else {
			o.Taken++
		}
	}
	return o
}

// Print writes the outcomes as a table with a sum, and reports whether all are clean.
func Print(w io.Writer, outcomes []Outcome) (clean bool) {
	clean = true
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "flow\tfrom\tto\tsent\ttaken\tmissing\tduplicated\tout of order\t")
	var sent, taken, missing, duplicated, disordered int
	for i := range outcomes {
		o := &outcomes[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t\n", o.Flow.Name, o.Flow.Source, o.Flow.To,
			o.Owed, o.Taken, len(o.Missing), len(o.Duplicated)+len(o.Unowed), len(o.OutOfOrder))
		sent, taken, missing = sent+o.Owed, taken+o.Taken, missing+len(o.Missing)
		duplicated, disordered = duplicated+len(o.Duplicated)+len(o.Unowed), disordered+len(o.OutOfOrder)
		clean = clean && o.Clean()
	}
	fmt.Fprintf(t, "all\t\t\t%d\t%d\t%d\t%d\t%d\t\n", sent, taken, missing, duplicated, disordered)
	_ = t.Flush() // the reader is gone if this fails
	return clean && sent > 0
}
