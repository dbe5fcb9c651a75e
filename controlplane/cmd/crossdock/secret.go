package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/sealing"
)

func (a *app) secretCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use: "secret", Short: "Secrets of systems and plugins, sealed to the agents that use them",
		Long: `Secrets of systems and plugins, sealed to the agents that use them.

A secret is sealed on this machine to a key that only the agent of the system's site has. No
node of the control plane can open it, nor can anybody with its disks or backups. Policy
refers to it as secret:NAME, in the document of the system or plugin that it belongs to.`,
	})
	cmd.AddCommand(a.secretSetCommand(), a.secretListCommand(), a.secretDropCommand())
	return cmd
}

// secretArgument reads OWNER or OWNER/NAME.
func secretArgument(text string) (owner, name string, err error) {
	owner, name, named := strings.Cut(text, "/")
	if owner == "" || named && !policy.SecretName(name) {
		return "", "", usageError("%q names no secret: write SYSTEM/NAME, or plugin:PLUGIN/NAME, with lower-case letters, digits, -, . and _", text)
	}
	return owner, name, nil
}

// newSecret is what a person says of a secret to set.
type newSecret struct {
	file, site, fingerprint string
	keepFormer              time.Duration
	rotate                  bool
	onlyTo                  []string // hosts
	anywhere                bool
}

func (a *app) secretSetCommand() *cobra.Command {
	var n newSecret
	cmd := &cobra.Command{
		Use: "set SYSTEM[/NAME]", Short: "Seal a secret to the agent that uses it; it is read from standard input or a file", Args: cobra.ExactArgs(1),
		Long: `Seal a secret to the agent that uses it; it is read from standard input or a file.

Role operator. NAME may be left out where policy refers to one secret of the system only. The
secret of a plugin, plugin:PLUGIN/NAME, is sealed to the agent of each site where it runs.
It is in use as soon as its agent is connected, and from then on while the line is cut.

The key is printed by its fingerprint. Its agent shows the same in crossdock-agent status: ask
somebody at the site once, then give it with --fingerprint, and a control plane that names
another key is found out.

Policy says where a system is. With --only-to the hosts that may get the secret are sealed in
with it, and its agent uses it for no system that policy has at another host; neither policy nor
the control plane can change that. Name each host that the system's driver calls, with OAuth2
the token server too: HOST means port 443, or 80 of http; HOST:PORT that port. What was once set
without hosts may still be held by the control plane: set a new value, not the same again.

To rotate a token without a gap, keep the former one valid beside the new one: --keep-former 24h,
or --rotate until crossdock secret drop --former. What a system shows to the agent is then taken
with either, webhooks bear the signatures of both; what the agent shows to a system is the newest.`,
		Example: "  crossdock secret set erp/token < token.txt\n  crossdock secret set shop --file token.txt --keep-former 24h\n" +
			"  crossdock secret set erp/token --only-to erp.example:8443 < token.txt",
	}
	cmd.RunE = a.ask(func(ctx context.Context, c *client, args []string) error {
		owner, name, err := secretArgument(args[0])
		if err != nil {
			return err
		}
		switch {
		case n.rotate && cmd.Flags().Changed("keep-former"):
			return usageError("give --keep-former or --rotate, not both")
		case cmd.Flags().Changed("keep-former") && n.keepFormer <= 0:
			return usageError("--keep-former is how long the former value stays valid, such as 24h")
		}
		if err := n.checkHosts(owner); err != nil {
			return err
		}
		return a.setSecret(ctx, c, owner, name, n)
	})
	flags := cmd.Flags()
	flags.StringVar(&n.file, "file", "", "file that holds the secret; default standard input")
	flags.StringVar(&n.site, "site", "", "this site only; needed where the policy in force does not have the system yet")
	flags.StringVar(&n.fingerprint, "fingerprint", "", "seal to the key with this fingerprint or not at all")
	flags.DurationVar(&n.keepFormer, "keep-former", 0, "the former value stays valid for so long, such as 24h")
	flags.StringArrayVar(&n.onlyTo, "only-to", nil, "host, or host:port, that it may be sent to; may be repeated; default wherever policy has the system")
	flags.BoolVar(&n.anywhere, "anywhere", false, "it may be sent wherever policy has the system, though the one before may not")
	flags.BoolVar(&n.rotate, "rotate", false, "the former value stays valid until it is dropped")
	return cmd
}

func (a *app) setSecret(ctx context.Context, c *client, owner, name string, n newSecret) error {
	query := url.Values{"owner": {owner}}
	if n.site != "" {
		query.Set("site", n.site)
	}
	var to api.SecretTargets
	if err := c.get(ctx, "/secrets/targets", query, &to); err != nil {
		return err
	}
	if name == "" {
		if len(to.Names) != 1 {
			return usageError("name the secret: %s/NAME; the policy in force refers to %s", owner, orNone(to.Names))
		}
		name = to.Names[0]
	}
	if !slices.Contains(to.Names, name) {
		fmt.Fprintf(a.stderr, "the policy in force does not refer to secret:%s of %s, so nothing uses it yet; it refers to %s\n", name, owner, orNone(to.Names))
	}
	for _, t := range to.Items { // all of them first: not one is set where another cannot be
		if err := verifyTarget(&t, n.fingerprint); err != nil {
			return err
		}
	}
	if err := a.mayBeFor(&n, owner, name, &to); err != nil {
		return err
	}
	value, err := a.readSecret(n.file)
	if err != nil {
		return err
	}
	var done api.SecretList
	for _, t := range to.Items {
		one := api.NewSecret{Agent: t.Agent, Owner: owner, Name: name, Version: t.Versions[name] + 1, Recipient: t.Recipient}
		if one.Sealed, err = sealing.Seal(t.Recipient, sealing.Binding{Cluster: t.Cluster, Agent: t.Agent, Name: owner + "/" + name, Version: one.Version}, value, n.onlyTo...); err != nil {
			return err
		}
		if one.KeepFormer = n.rotate || n.keepFormer > 0; n.keepFormer > 0 {
			one.FormerUntil = time.Now().Add(n.keepFormer).UTC()
		}
		var kept api.Secret
		if err := c.post(ctx, "/secrets", one, &kept); err != nil {
			return fmt.Errorf("agent %s: %w", t.Agent, err)
		}
		done.Items = append(done.Items, kept)
	}
	return a.show(done, func(w io.Writer) { writeSet(w, done.Items, n.onlyTo) })
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none of it"
	}
	return strings.Join(names, ", ")
}

// verifyTarget looks whether the key is that of the agent: it has to be signed by the one
// that the agent registered, and to be the one that a person has read there.
func verifyTarget(t *api.SecretTarget, fingerprint string) error {
	if t.Recipient == "" {
		return &exitError{exitConflict, fmt.Errorf("agent %s has not said to which key its secrets are to be sealed: it was not connected since it was enrolled, "+
			"or it runs a version that takes none; connect or upgrade it", t.Agent)}
	}
	registered, err := hex.DecodeString(t.RegisteredKey)
	if err != nil || len(registered) != 32 {
		return fmt.Errorf("the control plane gives no key that agent %s registered", t.Agent)
	}
	said := sealing.Announcement{Recipient: t.Recipient, Key: t.Key, Signature: t.Signature}
	if err := said.Verify(t.Cluster, t.Agent, [32]byte(registered)); err != nil {
		return &exitError{exitConflict, fmt.Errorf("nothing was sealed to agent %s: %w", t.Agent, err)}
	}
	if got := sealing.Fingerprint(t.Recipient); fingerprint != "" && !strings.EqualFold(fingerprint, got) {
		return &exitError{exitConflict, fmt.Errorf("nothing was sealed to agent %s: the control plane names key %s, and you expect %s; "+
			"the agent was enrolled anew, or somebody stands in between: compare with crossdock-agent status at the site", t.Agent, got, clean(fingerprint))}
	}
	return nil
}

// readSecret reads a secret from where it is not seen by others, as an argument would be.
func (a *app) readSecret(file string) ([]byte, error) {
	from, where := a.stdin, "standard input"
	if file != "" {
		f, err := os.Open(filepath.Clean(file))
		if err != nil {
			return nil, usageError("%w", err)
		}
		defer f.Close() // opened for reading
		from, where = f, file
	}
	value, err := io.ReadAll(io.LimitReader(from, sealing.MaxValue+1))
	switch {
	case err != nil:
		return nil, usageError("%s: %w", where, err)
	case len(strings.TrimSpace(string(value))) == 0:
		return nil, usageError("%s holds no secret", where)
	case len(value) > sealing.MaxValue:
		return nil, usageError("%s holds more than %d bytes, which is the limit of a secret", where, sealing.MaxValue)
	}
	return value, nil
}

func writeSet(w io.Writer, list []api.Secret, onlyTo []string) {
	for i := range list {
		s := &list[i]
		fmt.Fprintf(w, "%s/%s version %d is sealed to agent %s, key %s\n", clean(s.Owner), clean(s.Name), s.Version, clean(s.Agent), clean(s.Key))
		if len(onlyTo) > 0 {
			fmt.Fprintf(w, "  it is sent to no host but %s\n", strings.Join(onlyTo, ", "))
		}
		if s.Former {
			fmt.Fprintf(w, "  the former value stays valid %s\n", formerUntil(s))
		}
	}
	fmt.Fprintln(w, "crossdock-agent status shows the key at the site; crossdock secret list shows when it is in use")
}

func formerUntil(s *api.Secret) string {
	if s.FormerUntil.IsZero() {
		return "until it is dropped"
	}
	return "until " + when(s.FormerUntil)
}

func (a *app) secretListCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List secrets and how each stands at its agent", Args: cobra.NoArgs,
		Long: `List secrets and how each stands at its agent, as that last said.

in use          the agent holds this version
waiting         the agent has not said so yet
refused         the agent cannot use it: see NOTE
former key      sealed to a former key of the agent, which was enrolled anew: set it anew
dropping        the agent has not said yet that it has dropped it
newer at agent  the control plane was put back to an older state; the agent goes on with
                what it has: set it anew or drop it`,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.SecretList
			if err := c.get(ctx, "/secrets", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeSecrets(w, out.Items, all) })
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that were dropped")
	return cmd
}

func writeSecrets(w io.Writer, list []api.Secret, all bool) {
	shown := 0
	for i := range list {
		s := &list[i]
		if s.State == "dropped" && !all {
			continue
		}
		if shown++; shown == 1 {
			row(w, "SECRET", "SITE", "VERSION", "STATE", "SET", "BY", "KEY", "NOTE")
		}
		note := s.Refused
		if len(s.Only) > 0 {
			note = strings.TrimPrefix(note+"; only to "+strings.Join(s.Only, ", "), "; ")
		}
		if s.Former {
			note = strings.TrimPrefix(note+"; former value valid "+formerUntil(s), "; ")
		}
		row(w, s.Owner+"/"+s.Name, s.Agent, s.Version, s.State, age(s.At), s.By, s.Key, oneLine(note))
	}
	if shown == 0 {
		fmt.Fprintln(w, "there are no sealed secrets")
	}
}

func (a *app) secretDropCommand() *cobra.Command {
	var site string
	var former bool
	cmd := &cobra.Command{
		Use: "drop SYSTEM/NAME", Short: "Drop a secret, or with --former only the value before", Args: cobra.ExactArgs(1),
		Long: `Drop a secret, or with --former only the value before, which is valid beside the newest.

Role operator. Its agents drop it as soon as they are connected. A secret at several sites is
dropped at all of them, or at one with --site.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			owner, name, err := secretArgument(args[0])
			if err != nil {
				return err
			}
			if name == "" {
				return usageError("name the secret: %s/NAME", owner)
			}
			return a.dropSecret(ctx, c, owner, name, site, former)
		}),
	}
	cmd.Flags().StringVar(&site, "site", "", "at this site only")
	cmd.Flags().BoolVar(&former, "former", false, "only the former value")
	return cmd
}

func (a *app) dropSecret(ctx context.Context, c *client, owner, name, site string, former bool) error {
	var list api.SecretList
	if err := c.get(ctx, "/secrets", nil, &list); err != nil {
		return err
	}
	var agents []string
	for _, s := range list.Items {
		if s.Owner == owner && s.Name == name && (site == "" || s.Agent == site) && s.State != "dropped" && s.State != "dropping" && (!former || s.Former) {
			agents = append(agents, s.Agent)
		}
	}
	if len(agents) == 0 {
		return &exitError{exitFailed, fmt.Errorf("there is no such secret %s/%s to drop: see crossdock secret list", owner, name)}
	}
	var used api.SecretTargets
	if err := c.get(ctx, "/secrets/targets", url.Values{"owner": {owner}, "site": {agents[0]}}, &used); err != nil {
		return err
	}
	if !former && slices.Contains(used.Names, name) {
		fmt.Fprintf(a.stderr, "the policy in force refers to secret:%s: %s does without it until it is set again\n", name, owner)
	}
	query := ""
	if former {
		query = "?former=true"
	}
	for _, agent := range agents {
		if err := c.remove(ctx, "/secrets/"+url.PathEscape(agent)+"/"+url.PathEscape(owner)+"/"+url.PathEscape(name)+query); err != nil {
			return fmt.Errorf("agent %s: %w", agent, err)
		}
	}
	return a.show(map[string]any{"dropped": agents}, func(w io.Writer) {
		what := owner + "/" + name
		if former {
			what = "the former value of " + what
		}
		fmt.Fprintf(w, "%s is dropped at %s, as soon as connected\n", what, strings.Join(agents, ", "))
	})
}
