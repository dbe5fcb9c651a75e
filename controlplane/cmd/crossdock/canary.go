package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

// stateOf names the sites with a canary.
func stateOf(r *api.Revision) string {
	if r.State == api.RevisionStateCanary {
		return fmt.Sprintf("%s at %s", r.State, strings.Join(r.Canary, ","))
	}
	return string(r.State)
}

func writeApproved(w io.Writer, r *api.Revision) {
	if r.State != api.RevisionStateCanary {
		fmt.Fprintf(w, "revision %d is in force\n", r.Number)
		return
	}
	fmt.Fprintf(w, "revision %d is in force at %s\n", r.Number, clean(strings.Join(r.Canary, ", ")))
	fmt.Fprintf(w, "everywhere: crossdock policy promote %d\n", r.Number)
	fmt.Fprintf(w, "take it back: crossdock policy withdraw %d\n", r.Number)
}

func (a *app) policyPromote() *cobra.Command {
	return &cobra.Command{
		Use: "promote NUMBER", Short: "Put a canary revision in force everywhere", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			out, err := a.changeRevision(ctx, args[0], "promote", nil)
			if err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeApproved(w, &out) })
		}),
	}
}

func (a *app) policyWithdraw() *cobra.Command {
	var in api.Withdrawal
	cmd := &cobra.Command{
		Use: "withdraw NUMBER", Short: "Take a canary revision back from its sites", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			out, err := a.changeRevision(ctx, args[0], "withdraw", in)
			if err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "revision %s is withdrawn; its sites get what is in force everywhere, as revision %d\n", clean(args[0]), out.Number)
			})
		}),
	}
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why; it stands in the audit")
	return cmd
}

func (a *app) changeRevision(ctx context.Context, which, verb string, in any) (out api.Revision, err error) {
	number, err := revisionNumber(which)
	if err != nil {
		return out, err
	}
	c, err := a.connect()
	if err != nil {
		return out, err
	}
	err = c.post(ctx, fmt.Sprintf("/revisions/%d/%s", number, verb), in, &out)
	return out, err
}
