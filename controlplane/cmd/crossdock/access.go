package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{Use: "token", Short: "Join tokens: one agent enrols once with each"})
	var site string
	var ttl time.Duration
	create := &cobra.Command{
		Use: "create --site SITE", Short: "Mint a join token and show it, once", Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			var out api.CreatedToken
			if err := c.post(ctx, "/tokens", api.NewToken{Site: site, Lifetime: ttl.String()}, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintln(w, out.Token)
				fmt.Fprintf(a.stderr, "for one agent of site %s, until %s; it is not shown again\n", out.Site, when(out.Expires))
			})
		}),
	}
	create.Flags().StringVar(&site, "site", "", "the site whose agent may enrol")
	create.Flags().DurationVar(&ttl, "ttl", api.DefaultTokenLifetime, "how long the token can be used")
	must(create.MarkFlagRequired("site"))
	list := &cobra.Command{
		Use: "list", Short: "List join tokens, without their secrets", Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			var out api.TokenList
			if err := c.get(ctx, "/tokens", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				row(w, "ID", "SITE", "BY", "EXPIRES", "USED", "REFUSED")
				for _, t := range out.Items {
					row(w, t.ID, t.Site, t.By, when(t.Expires), when(t.Used), t.Refused)
				}
			})
		}),
	}
	cmd.AddCommand(create, list)
	return cmd
}

// must is for calls that fail only when this source is wrong, such as a flag's name.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (a *app) agentsCommand() *cobra.Command {
	list := a.do(func(ctx context.Context, _ []string) error {
		c, err := a.connect()
		if err != nil {
			return err
		}
		var out api.AgentList
		if err := c.get(ctx, "/agents", nil, &out); err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) { writeAgents(w, out.Items) })
	})
	cmd := &cobra.Command{Use: "agents", Short: "List, show and revoke agents", Args: cobra.NoArgs, RunE: list}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show one agent and what it says of itself", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			var out api.Agent
			if err := c.get(ctx, "/agents/"+url.PathEscape(args[0]), nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeAgent(w, &out) })
		}),
	}
	revoke := &cobra.Command{
		Use: "revoke NAME", Short: "End an agent's right to speak", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			var out api.Agent
			if err := c.post(ctx, "/agents/"+url.PathEscape(args[0])+"/revoke", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is revoked; it comes back by a new join token only\n", clean(out.Name))
			})
		}),
	}
	cmd.AddCommand(&cobra.Command{Use: "list", Short: "List agents", Args: cobra.NoArgs, RunE: list}, show, revoke)
	return cmd
}

func (a *app) principalsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "principals", Short: "People and programs that may act", Args: cobra.NoArgs}
	list := &cobra.Command{
		Use: "list", Short: "List principals", Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
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
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			var out api.Principal
			if err := c.post(ctx, "/principals/"+url.PathEscape(args[0])+"/disable", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { fmt.Fprintf(w, "%s is disabled\n", clean(out.Name)) })
		}),
	}
	cmd.RunE = list.RunE
	cmd.AddCommand(list, a.principalsAddCommand(), disable)
	return cmd
}

func (a *app) principalsAddCommand() *cobra.Command {
	var roles []string
	add := &cobra.Command{
		Use: "add NAME --role ROLE", Short: "Add a principal and show its token, once", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
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
