package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/queue"
)

func printReport(w io.Writer, r queue.Report) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "journal\t%s\n", r.Dir)
	positions := "none"
	if r.First < r.Next {
		positions = fmt.Sprintf("%d to %d, %s", r.First, r.Next-1, doctor.Count(r.Records, "record"))
	}
	fmt.Fprintf(t, "positions\t%s\n", positions)
	fmt.Fprintf(t, "size\t%.1f MB\n", megabytes(r.Bytes))
	_ = t.Flush() // standard output
	fmt.Fprintln(t, "\nFILE\tFIRST\tNEXT\tRECORDS\tMB\tLAST WRITTEN")
	for _, f := range r.Files {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%s %s\n", f.Name, f.First, f.Next, f.Records, megabytes(f.Size), f.Written.Local().Format(time.DateTime), f.Error)
	}
	_ = t.Flush()
	fmt.Fprintln(t, "\nLANE OR CURSOR\tNUMBER")
	for _, numbers := range []map[string]uint64{r.Marks, r.Cursors} {
		for _, name := range slices.Sorted(maps.Keys(numbers)) {
			fmt.Fprintf(t, "%s\t%d\n", name, numbers[name])
		}
	}
	_ = t.Flush()
}
