package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/model"
)

func (a *app) principalsRescue() *cobra.Command {
	return &cobra.Command{
		Use: "rescue --data DIR", Short: "Get an administrator's token on a node, when all are lost", Args: cobra.NoArgs,
		Long: `Get an administrator's token on a node, when all are lost.

Works on the machine of a node that runs, as the user whose server it is or as root, and
needs no token: the right to write into the data directory is the proof. The node's own
administrator, admin@NODE, gets a new token, in admin.token there; all others keep theirs.
A token in that file that is still good stays. It stands in the audit.`,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			data := firstOf(a.client.data, os.Getenv("CROSSDOCK_DATA"), controlplane.DefaultData())
			out, err := controlplane.Rescue(ctx, data)
			var refused *model.Error
			switch {
			case errors.As(err, &refused):
				return &exitError{exitOf(string(refused.Code)), err}
			case errors.Is(err, fs.ErrPermission):
				return &exitError{exitDenied, err}
			case err != nil:
				return nodeError(err)
			}
			return a.show(out, func(w io.Writer) { writeRescued(w, &out) })
		}),
	}
}

func writeRescued(w io.Writer, r *controlplane.RescueInfo) {
	if r.Kept {
		fmt.Fprintf(w, "the token in %s is good: it is that of %s, an administrator; nothing was changed\n", clean(r.TokenFile), clean(r.Principal))
		return
	}
	fmt.Fprintf(w, `%s is an administrator; its token is in %s
keep a copy elsewhere, or make another administrator: crossdock principals add NAME --role admin
if a lost token may be in other hands: crossdock principals list, and disable whose it was
`, clean(r.Principal), clean(r.TokenFile))
}
