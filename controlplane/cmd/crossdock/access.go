package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{Use: "token", Short: "Join tokens: one agent or one node joins once with each"})
	list := &cobra.Command{
		Use: "list", Short: "List join tokens, without their secrets", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.TokenList
			if err := c.get(ctx, "/tokens", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				row(w, "ID", "SITE", "NODE", "BY", "EXPIRES", "USED", "REFUSED")
				for _, t := range out.Items {
					row(w, t.ID, t.Site, t.Node, t.By, when(t.Expires), when(t.Used), t.Refused)
				}
			})
		}),
	}
	cmd.AddCommand(a.tokenCreate(), list)
	return cmd
}

func (a *app) tokenCreate() *cobra.Command {
	var in api.NewToken
	var ttl time.Duration
	create := &cobra.Command{
		Use: "create --site SITE | --node NAME", Short: "Mint a join token and show it, once", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			in.Lifetime = ttl.String()
			if err := a.warnOfAgents(ctx, c, in.Site); err != nil {
				return err
			}
			var out api.CreatedToken
			if err := c.post(ctx, "/tokens", in, &out); err != nil {
				return err
			}
			shown := shownToken{CreatedToken: out, Line: joinLine(out.ControlPlane)}
			return a.show(shown, func(w io.Writer) {
				fmt.Fprintln(w, out.Token)
				a.explainToken(&shown)
			})
		}),
	}
	create.Flags().StringVar(&in.Site, "site", "", "the site whose agent may enrol")
	create.Flags().StringVar(&in.Node, "node", "", "the node of the control plane that may join; for administrators")
	create.Flags().DurationVar(&ttl, "ttl", api.DefaultTokenLifetime, "how long the token can be used")
	create.MarkFlagsOneRequired("site", "node")
	create.MarkFlagsMutuallyExclusive("site", "node")
	return create
}

// warnOfAgents says whom a token can put out of action: enrolling with it on another machine
// revokes the agent that the site has.
func (a *app) warnOfAgents(ctx context.Context, c *client, site string) error {
	var agents api.AgentList
	if site == "" {
		return nil
	}
	if err := c.get(ctx, "/agents", nil, &agents); err != nil {
		return err
	}
	for _, g := range agents.Items {
		if g.Site == site && g.Revoked.IsZero() {
			state := "not connected now"
			if g.Connected {
				state = "connected now"
			}
			fmt.Fprintf(a.stderr, "site %s has an agent, %s, %s: to enrol on another machine revokes it. A further agent needs a site of its own in the policy\n", site, g.Name, state)
		}
	}
	return nil
}

// shownToken is a token with what is to be typed at the site.
type shownToken struct {
	api.CreatedToken
	Line string `json:"line,omitempty"` // for an agent; the token is in the file that it names
}

// joinLine is all that a site's server has to be told, "" where no address is known.
func joinLine(addresses []string) string {
	if len(addresses) == 0 {
		return ""
	}
	return "crossdock-agent enroll --control-plane " + strings.Join(addresses, ",") + " --token-file token && crossdock-agent service install"
}

func (a *app) explainToken(t *shownToken) {
	if t.Node != "" {
		fmt.Fprintf(a.stderr, "for node %s, until %s; it is not shown again\non that machine: crossdock cluster join ADDRESS --token TOKEN --config FILE\n",
			t.Node, when(t.Expires))
		return
	}
	fmt.Fprintf(a.stderr, "for one agent of site %s, until %s; it is not shown again\n", t.Site, when(t.Expires))
	if t.Line != "" {
		fmt.Fprintf(a.stderr, "on the site's server, with the token in the file token: %s\n", t.Line)
	}
	if slices.ContainsFunc(t.ControlPlane, onLoopback) {
		fmt.Fprintln(a.stderr, "some of these addresses are of this machine only: name the nodes as sites reach them, with sync.names or sync.advertise in their configuration")
	}
	if i := slices.IndexFunc(t.ControlPlane, ofExample); i >= 0 {
		fmt.Fprintf(a.stderr, "%s is a name of the example configuration, which no site reaches: set sync.names in %s on that node to the name that sites reach it by, and restart it\n",
			clean(t.ControlPlane[i]), defaultConfig())
	}
	if !t.Policy {
		fmt.Fprintln(a.stderr, "no policy is in force yet: the site's name could not be checked, and its agent will wait for one")
	}
}

// onLoopback reports whether an address, host:port, leads to the machine that asks.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// ofExample reports whether an address, host:port, was left as the shipped configuration has it.
func ofExample(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && strings.HasSuffix("."+strings.TrimSuffix(host, "."), ".example.com") // nobody may own it
}

// must is for calls that fail only when this source is wrong, such as a flag's name.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (a *app) agentsCommand() *cobra.Command {
	list := a.ask(func(ctx context.Context, c *client, _ []string) error {
		var out api.AgentList
		if err := c.get(ctx, "/agents", nil, &out); err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) { writeAgents(w, out.Items, out.Unattended) })
	})
	cmd := &cobra.Command{Use: "agents", Short: "List, show, examine, revoke, allow and forget agents", Args: cobra.NoArgs, RunE: list}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show one agent and what it says of itself", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Agent
			if err := c.get(ctx, "/agents/"+url.PathEscape(args[0]), nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeAgent(w, &out) })
		}),
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List agents", Args: cobra.NoArgs, RunE: list}, show, a.agentDoctorCommand(),
		a.changeAgent("revoke", "End an agent's right to speak", "",
			"is revoked; it comes back by a new join token only"),
		a.changeAgent("allow", "Let an old copy of an agent in, once, within a day", `
Say this only when you know that no other copy of the agent runs: it was restored from an
image or a copy of its disk, and the control plane has seen a later life of it. What the
later life had taken in and not yet passed on is lost with its disk.`,
			"is let in once more within a day; what was said of it stands in: crossdock exceptions"),
		a.changeAgent("forget", "Give up what waits for a revoked agent", `
Events that wait for it are dropped, and what is still sent to it is taken and not kept.
Both are counted in an exception. It does not change the agent's own data.`,
			"is forgotten; what was given up is counted in: crossdock exceptions"),
	)
	return cmd
}

func (a *app) changeAgent(verb, short, long, done string) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Agent
			if err := c.post(ctx, "/agents/"+url.PathEscape(args[0])+"/"+verb, nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", clean(out.Name), done) })
		}),
	}
	if long != "" {
		cmd.Long = short + ".\n" + long
	}
	return cmd
}

func (a *app) principalsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "principals", Short: "People and programs that may act", Args: cobra.NoArgs}
	list := &cobra.Command{
		Use: "list", Short: "List principals", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.PrincipalList
			if err := c.get(ctx, "/principals", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				row(w, "NAME", "ROLES", "CREATED", "DISABLED")
				for _, p := range out.Items {
					row(w, p.Name, joinRoles(p.Roles), when(p.Created), yes(p.Disabled))
				}
			})
		}),
	}
	disable := &cobra.Command{
		Use: "disable NAME", Short: "End a principal's access", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Principal
			if err := c.post(ctx, "/principals/"+url.PathEscape(args[0])+"/disable", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { fmt.Fprintf(w, "%s is disabled\n", clean(out.Name)) })
		}),
	}
	cmd.RunE = list.RunE
	cmd.AddCommand(list, a.principalsAddCommand(), disable, a.principalsRescue())
	return cmd
}

func (a *app) principalsAddCommand() *cobra.Command {
	var roles []string
	add := &cobra.Command{
		Use: "add NAME --role ROLE", Short: "Add a principal and show its token, once", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			in := api.NewPrincipal{Name: args[0]}
			for _, r := range roles {
				if !api.Role(r).Valid() {
					return usageError("--role %q is none of viewer, operator, author, approver, admin", r)
				}
				in.Roles = append(in.Roles, api.Role(r))
			}
			var out api.CreatedPrincipal
			if err := c.post(ctx, "/principals", in, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintln(w, out.Token)
				fmt.Fprintf(a.stderr, "the token of %s; it is not shown again\n", clean(out.Principal.Name))
			})
		}),
	}
	add.Flags().StringSliceVar(&roles, "role", nil, "viewer, operator, author, approver or admin; may be given several times")
	must(add.MarkFlagRequired("role"))
	return add
}

func joinRoles(roles []api.Role) string {
	texts := make([]string, len(roles))
	for i, r := range roles {
		texts[i] = string(r)
	}
	return strings.Join(texts, ",")
}
