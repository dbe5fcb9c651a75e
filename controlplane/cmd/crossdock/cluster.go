package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) clusterCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use: "cluster", Short: "Nodes, backups, recovery and the certificate authority",
		Long: `Nodes, backups, recovery and the certificate authority.

Any node answers everything. These need no server that runs, and work on the data
directory of this machine: join, restore, recover, and backup --verify.`,
	})
	cmd.AddCommand(
		a.clusterStatus(), a.clusterJoin(), a.clusterRemove(), a.clusterTransfer(),
		a.clusterBackup(), a.clusterRestore(), a.clusterRecover(), a.rotateCommand(),
	)
	return cmd
}

func (a *app) clusterStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the nodes and whether they agree", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.Cluster
			if err := c.get(ctx, "/cluster", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeCluster(w, &out) })
		}),
	}
}

func writeCluster(w io.Writer, c *api.Cluster) {
	row(w, "cluster", c.ID)
	row(w, "generation", c.Generation)
	row(w, "incarnation", c.Incarnation)
	row(w, "approvals", approvalsText(c.Approvals))
	row(w, "answered by", c.Node)
	writeState(w, c)
	fmt.Fprintln(w)
	row(w, "NODE", "ROLE", "READY", "APPLIED", "CONTACT", "FREE DISK", "AGENTS", "VERSION", "PEER", "PROBLEM")
	for i := range c.Nodes {
		n := &c.Nodes[i]
		row(w, n.ID, roleOf(n), yes(n.Ready), n.Applied, contact(n), sizeOf(n.FreeBytes), countOf(n.Agents), shortVersion(n.Version), n.Peer, oneLine(n.Problem))
	}
	if len(c.Authorities) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "AUTHORITY", "STATE", "CREATED", "EXPIRES", "AGENTS")
	for i := range c.Authorities {
		one := &c.Authorities[i]
		row(w, one.ID, one.State, when(one.Created), when(one.Expires), one.Agents)
	}
	if next := nextStep(c.Authorities); next != "" {
		fmt.Fprintf(w, "\n%s\n", next)
	}
}

// approvalsText says what it means that approvals are single.
func approvalsText(approvals api.Approvals) string {
	if approvals == api.ApprovalsSingle {
		return "single: one person may approve their own changes"
	}
	return string(approvals)
}

// writeState says what a person must know of the cluster as a whole.
func writeState(w io.Writer, c *api.Cluster) {
	if c.LeaderNode != "" || len(c.Nodes) > 0 {
		leader := c.LeaderNode
		if leader == "" {
			leader = "none: nothing can be changed until a majority of the voters is in touch"
		}
		row(w, "leader", leader)
	}
	switch {
	case c.Verdict.Halted != "":
		row(w, "states", "NOTHING IS WRITTEN: "+oneLine(c.Verdict.Halted))
	case c.Verdict.Index == 0:
		row(w, "states", "not compared yet: that is done every 1,024 entries, and ten minutes after a change")
	case !c.Verdict.Agreed:
		row(w, "states", fmt.Sprintf("differ at entry %d; a node that differs stops and says so in its log", c.Verdict.Index))
	default:
		row(w, "states", fmt.Sprintf("equal on a majority at entry %d", c.Verdict.Index))
	}
	if c.Rebuilt.Cause != "" {
		row(w, "rebuilt", fmt.Sprintf("%s from a %s on %s; changes after %s may be missing",
			when(c.Rebuilt.At), c.Rebuilt.Cause, c.Rebuilt.Node, when(c.Rebuilt.From)))
	}
}

func roleOf(n *api.Node) string {
	switch {
	case n.Leader:
		return "leader"
	case n.Role == api.NodeRoleNone:
		return "no member"
	}
	return string(n.Role)
}

func contact(n *api.Node) string {
	if n.Contact.IsZero() {
		return "never"
	}
	return (time.Duration(n.AgeSeconds) * time.Second).String() + " ago"
}

func sizeOf(bytes *int64) string {
	if bytes == nil {
		return "-"
	}
	const kilo = 1024
	size, units := float64(*bytes), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	at := 0
	for size >= kilo && at < len(units)-1 {
		size, at = size/kilo, at+1
	}
	return fmt.Sprintf("%.4g %s", size, units[at])
}

func countOf(n *int) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

func (a *app) clusterRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the cluster, dead or alive", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			if err := c.remove(ctx, "/cluster/nodes/"+url.PathEscape(args[0])); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "%s is no member any more; its data directory is of no use, but for admin.token if that is the only one: keep it, and delete the rest before the machine joins again\n", clean(args[0]))
			return nil
		}),
	}
}

func (a *app) clusterTransfer() *cobra.Command {
	return &cobra.Command{
		Use: "transfer [NODE]", Short: "Let another node lead, before work on the one that does", Args: cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			in := api.Transfer{}
			if len(args) == 1 {
				in.To = args[0]
			}
			var out api.Leader
			if err := c.post(ctx, "/cluster/transfer", in, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { fmt.Fprintf(w, "%s leads\n", clean(firstOf(out.LeaderNode, "another node"))) })
		}),
	}
}
