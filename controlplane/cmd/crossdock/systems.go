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

func (a *app) systemsCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{Use: "systems", Short: "Systems that take the place of others"})
	moves := &cobra.Command{
		Use: "moves", Short: "List moves and what they wait for", Args: cobra.NoArgs,
		Long: `List moves and what they wait for.

flushing: agents may still have events for the old system
draining: all of these are at the old system's agent, which is not done
released: the new system is served`,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.MoveList
			if err := c.get(ctx, "/systems/moves", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeMoves(w, out.Items) })
		}),
	}
	release := &cobra.Command{
		Use: "release NAME", Short: "Serve a new system now, whatever the old one still has", Args: cobra.ExactArgs(1),
		Long: `Serve a new system now, whatever the old one still has.

Without this a move ends by itself, when nothing is pending for the old system any more.
Afterwards events of one key may be delivered by both, in any order.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Move
			if err := c.post(ctx, "/systems/"+url.PathEscape(args[0])+"/release", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is released; agent %s is told as soon as it is connected\n", clean(out.System), clean(out.Site))
			})
		}),
	}
	cmd.AddCommand(moves, release)
	return cmd
}

func writeMoves(w io.Writer, moves []api.Move) {
	if len(moves) == 0 {
		fmt.Fprintln(w, "no system takes the place of another")
		return
	}
	row(w, "SYSTEM", "SITE", "REPLACES", "AT", "STATE", "SINCE", "WAITS FOR", "RELEASED", "BY")
	for i := range moves {
		m := &moves[i]
		row(w, m.System, m.Site, m.Old, m.OldSite, m.State, when(m.Since), strings.Join(m.Waiting, " "), when(m.Released), m.By)
	}
}
