package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) rotateCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use: "rotate-ca", Short: "Replace the certificate authority, in three steps",
		Long: `Replace the certificate authority, in three steps.

  begin     makes the next one; nodes and agents trust it from now on
  activate  lets it sign; certificates of the one before stay good
  finish    ends the trust in the one before; refused while an agent depends on it

Between the steps agents have to come by, which takes as long as a certificate's renewal.
One that never comes back has to be revoked; it enrols anew, with a join token.
crossdock cluster status shows the authorities and how many agents still have a
certificate of each.`,
	})
	cmd.AddCommand(a.rotateBegin(), a.rotateActivate(), a.rotateFinish())
	return cmd
}

// nextStep says how a rotation goes on; empty when there is none.
func nextStep(authorities []api.Authority) string {
	if _, found := inState(authorities, api.AuthorityStateNext); found {
		return "a next authority is trusted; when all agents have been in touch: crossdock cluster rotate-ca activate"
	}
	old, found := inState(authorities, api.AuthorityStateRetired)
	switch {
	case !found:
		return ""
	case old.Agents > 0:
		return counted(old.Agents, "agent still has", "agents still have") +
			" a certificate of the retired authority; when there are none: crossdock cluster rotate-ca finish"
	}
	return "no agent has a certificate of the retired authority any more: crossdock cluster rotate-ca finish"
}

func inState(authorities []api.Authority, state api.AuthorityState) (api.Authority, bool) {
	for _, one := range authorities {
		if one.State == state {
			return one, true
		}
	}
	return api.Authority{}, false
}

// authority finds the cluster's authority in a state; without one a step has nothing to do.
func (c *client) authority(ctx context.Context, state api.AuthorityState, without string) (api.Authority, error) {
	var cluster api.Cluster
	if err := c.get(ctx, "/cluster", nil, &cluster); err != nil {
		return api.Authority{}, err
	}
	one, found := inState(cluster.Authorities, state)
	if !found {
		return one, &exitError{exitConflict, errors.New(without)}
	}
	return one, nil
}

func (a *app) rotateBegin() *cobra.Command {
	return &cobra.Command{
		Use: "begin", Short: "Make the next authority, trusted by all", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.Authority
			if err := c.post(ctx, "/cluster/authorities", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "authority %s is made\n%s\n", out.ID, nextStep([]api.Authority{out}))
			})
		}),
	}
}

func (a *app) rotateActivate() *cobra.Command {
	return &cobra.Command{
		Use: "activate", Short: "Let the next authority sign", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			next, err := c.authority(ctx, api.AuthorityStateNext, "there is no next authority: crossdock cluster rotate-ca begin")
			if err != nil {
				return err
			}
			var out api.Authority
			if err := c.post(ctx, "/cluster/authorities/"+next.ID+"/activate", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "authority %s signs\nwhen no agent has a certificate of the one before (crossdock cluster status): crossdock cluster rotate-ca finish\n", out.ID)
			})
		}),
	}
}

func (a *app) rotateFinish() *cobra.Command {
	return &cobra.Command{
		Use: "finish", Short: "End the trust in the retired authority", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			old, err := c.authority(ctx, api.AuthorityStateRetired, "there is no retired authority: nothing to finish")
			if err != nil {
				return err
			}
			if err := c.remove(ctx, "/cluster/authorities/"+old.ID); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "authority %s is not trusted any more\n", old.ID)
			return nil
		}),
	}
}
