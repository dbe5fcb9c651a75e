package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) rangesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ranges", Short: "Number ranges: who leased what, and what is left", Args: cobra.NoArgs,
		Long: `Number ranges: who leased what, and what is left.

A site leases blocks of serials while its line is up, and gives single numbers while it is
cut off. USED and LEFT are as the agent last said. FREE is what can still be leased.
What was leased once is never leased again; what is lost with an agent's data is lost.

After a restore of the control plane a range goes on behind all that it can have leased since
the backup, by its limit of numbers an hour. Where that does not tell, it is held: see NOTE.`,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.RangeList
			if err := c.get(ctx, "/ranges", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeRanges(w, out.Items) })
		}),
	}
	var next uint64
	release := &cobra.Command{
		Use: "release NAME --next N", Short: "Go on leasing numbers of a range at a serial of your choice", Args: cobra.ExactArgs(1),
		Long: `Go on leasing numbers of a range at a serial of your choice.

For a range that is held, as nobody knows what was leased of it. Sites may hold numbers that
are not known here, and may have printed them. Choose N so that all of these lie below it:
nothing below N is leased any more. Also to take back what was passed over after a restore.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.NumberRange
			if err := c.post(ctx, "/ranges/"+url.PathEscape(args[0])+"/release", api.RangeRelease{Next: next}, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { fmt.Fprintf(w, "%s leases numbers again, from %d on\n", clean(out.Name), out.Next) })
		}),
	}
	release.Flags().Uint64Var(&next, "next", 0, "the first serial that may be leased")
	if err := release.MarkFlagRequired("next"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.AddCommand(release)
	return cmd
}

func writeRanges(w io.Writer, ranges []api.NumberRange) {
	if len(ranges) == 0 {
		fmt.Fprintln(w, "there are no number ranges")
		return
	}
	row(w, "RANGE", "SITE", "BLOCKS", "LEASED", "USED", "LEFT", "LOST", "FREE", "NOTE")
	for i := range ranges {
		r := &ranges[i]
		row(w, r.Name, strings.Join(r.Sites, " "), fmt.Sprintf("%d-%d", r.First, r.Last), "", "", "", "", r.Left, rangeNote(r))
		for _, l := range r.Leases {
			var used, left any = "?", "?"
			if !l.Reported.IsZero() {
				used, left = l.Used, l.Left
			}
			row(w, "", l.Agent, blocks(l.Blocks), l.Leased, used, left, l.Forfeited, "", l.Refused)
		}
	}
}

func rangeNote(r *api.NumberRange) string {
	switch {
	case r.Held != "":
		return "held: " + clean(r.Held)
	case !r.InForce:
		return "no longer in force"
	case r.Left == 0:
		return "used up"
	case r.Sure > 0:
		return fmt.Sprintf("%d-%d passed over after a restore", r.Sure, r.Next-1)
	}
	return ""
}

// blocks shows the newest few of a lease.
func blocks(list []api.NumberBlock) string {
	const few = 3
	var out []string
	if len(list) > few {
		out, list = append(out, fmt.Sprintf("%d more", len(list)-few)), list[len(list)-few:]
	}
	for _, b := range list {
		out = append(out, fmt.Sprintf("%d-%d", b.First, b.Last))
	}
	return strings.Join(out, " ")
}
