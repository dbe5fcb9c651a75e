package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/protocol/policy"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{Use: "policy", Short: "Check, propose, approve and follow the policy"})
	cmd.AddCommand(
		a.policyLint(), a.policyDiff(), a.policyPropose(), a.policyApprove(),
		a.policyPromote(), a.policyWithdraw(), a.policyHistory(), a.policyRollback(), a.policyShow(),
	)
	return cmd
}

// readBundle reads a policy folder.
func readBundle(dir string) (policy.Bundle, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, usageError("policy folder: %w", err)
	}
	if !info.IsDir() {
		return nil, usageError("%s is not a folder; a policy is a folder of YAML documents, schemas and .jq files", dir)
	}
	bundle, err := policy.ReadBundle(os.DirFS(dir))
	if err != nil {
		return nil, usageError("policy folder %s: %w", dir, err)
	}
	return bundle, nil
}

// lintAnswer is what lint shows as JSON.
type lintAnswer struct {
	Ok       bool            `json:"ok"`
	Digest   string          `json:"digest"`
	Problems policy.Problems `json:"problems"`
}

func (a *app) policyLint() *cobra.Command {
	return &cobra.Command{
		Use: "lint DIR", Short: "Check a policy folder; needs no server", Args: cobra.ExactArgs(1),
		RunE: a.do(func(_ context.Context, args []string) error {
			bundle, err := readBundle(args[0])
			if err != nil {
				return err
			}
			_, problems := policy.Compile(bundle)
			out := lintAnswer{Ok: !problems.Failed(), Digest: digestText(bundle), Problems: problems}
			if out.Problems == nil {
				out.Problems = policy.Problems{}
			}
			err = a.show(out, func(w io.Writer) {
				writeProblems(w, args[0], problems)
				if out.Ok {
					fmt.Fprintf(w, "ok: %s, %s\n", counted(len(bundle), "file", "files"), out.Digest)
				}
			})
			if err == nil && !out.Ok {
				return &exitError{exitFailed, fmt.Errorf("%s has errors", args[0])}
			}
			return err
		}),
	}
}

func digestText(bundle policy.Bundle) string { return fmt.Sprintf("sha256:%x", bundle.Digest()) }

// writeProblems writes what editors and people know from compilers: file:line:column: severity: message.
func writeProblems(w io.Writer, dir string, problems policy.Problems) {
	for _, p := range problems {
		file := filepath.ToSlash(filepath.Join(dir, filepath.FromSlash(p.File)))
		fmt.Fprintf(w, "%s:%d:%d: %s: %s\n", clean(file), p.Line, max(p.Column, 1), p.Severity, clean(p.Message))
		if p.Hint != "" {
			fmt.Fprintf(w, "    hint: %s\n", clean(p.Hint))
		}
	}
}

// compileDir reads and checks a folder, and stops at errors.
func (a *app) compileDir(dir string) (policy.Bundle, *policy.Set, error) {
	bundle, err := readBundle(dir)
	if err != nil {
		return nil, nil, err
	}
	set, problems := policy.Compile(bundle)
	writeProblems(a.stderr, dir, problems)
	if set == nil || problems.Failed() {
		return nil, nil, &exitError{exitFailed, fmt.Errorf("%s has errors; nothing was sent", dir)}
	}
	return bundle, set, nil
}

// diffAnswer is what diff shows as JSON.
type diffAnswer struct {
	From    uint64          `json:"from"`
	Changes []policy.Change `json:"changes"`
}

func (a *app) policyDiff() *cobra.Command {
	var from uint64
	cmd := &cobra.Command{
		Use: "diff DIR", Short: "Compare a policy folder with the revision in force", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			bundle, set, err := a.compileDir(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			number, old, err := c.revisionOrActive(ctx, from)
			if err != nil {
				return err
			}
			oldSet, problems := policy.Load(old)
			if oldSet == nil && len(old) > 0 {
				return fmt.Errorf("revision %d does not pass this program's checks: %w", number, problems)
			}
			if oldSet == nil {
				oldSet = &policy.Set{}
			}
			if from == 0 { // propose compares with the one in force
				a.writeFixed(old, bundle)
			}
			out := diffAnswer{From: number, Changes: policy.Diff(oldSet, set, old, bundle)}
			if out.Changes == nil {
				out.Changes = []policy.Change{}
			}
			return a.show(out, func(w io.Writer) { writeChanges(w, out.Changes) })
		}),
	}
	cmd.Flags().Uint64Var(&from, "revision", 0, "compare with this revision instead")
	return cmd
}

// writeFixed says, before anybody proposes it, what the control plane will refuse: changes of what
// never changes. Whether a bundle is one that was approved before, and so brings back the schemas
// of then, only the control plane knows.
func (a *app) writeFixed(inForce, bundle policy.Bundle) {
	write := func(begin string, fault fmt.Stringer) {
		fmt.Fprintf(a.stderr, "%s: %s\n", begin, clean(fault.String()))
	}
	for _, f := range policy.Relocated(inForce, bundle) {
		write("propose will refuse this", f)
	}
	for _, f := range policy.Reissued(inForce, bundle) {
		write("propose will refuse this", f)
	}
	for _, f := range policy.Rewritten(inForce, bundle, nil) {
		write("propose may refuse this, unless a revision with exactly these documents was approved before", f)
	}
}

// revisionOrActive gives the documents of a revision: of the one in force for 0, and none
// when there is none yet.
func (c *client) revisionOrActive(ctx context.Context, number uint64) (uint64, policy.Bundle, error) {
	if number == 0 {
		var active api.Revision
		err := c.get(ctx, "/revisions/active", nil, &active)
		if isNotFound(err) {
			return 0, policy.Bundle{}, nil
		}
		if err != nil {
			return 0, nil, err
		}
		number = active.Number
	}
	var out api.RevisionBundle
	if err := c.get(ctx, fmt.Sprintf("/revisions/%d/bundle", number), nil, &out); err != nil {
		return 0, nil, err
	}
	bundle := policy.Bundle{}
	for name, text := range out.Bundle {
		bundle[name] = []byte(text)
	}
	return number, bundle, nil
}

func writeChanges(w io.Writer, changes []policy.Change) {
	if len(changes) == 0 {
		fmt.Fprintln(w, "no changes")
	}
	for _, c := range changes {
		replaces := ""
		if c.Replaces != "" {
			replaces = " (replaces " + clean(c.Replaces) + ")"
		}
		fmt.Fprintf(w, "%s %s %s%s\n", clean(c.Change), clean(c.Kind), clean(c.Name), replaces)
		for _, field := range c.Fields {
			fmt.Fprintf(w, "    %s\n", clean(field))
		}
	}
}

func (a *app) policyPropose() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: "propose DIR -m NOTE", Short: "Propose a policy folder as the next revision", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			bundle, _, err := a.compileDir(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			in := api.Proposal{Note: note, Bundle: api.Documents{}}
			for name, content := range bundle {
				in.Bundle[name] = string(content)
			}
			var out api.Revision
			if err := c.post(ctx, "/revisions", in, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { a.writeProposed(w, &out) })
		}),
	}
	cmd.Flags().StringVarP(&note, "message", "m", "", "what changes, and why")
	must(cmd.MarkFlagRequired("message"))
	return cmd
}

func (a *app) writeProposed(w io.Writer, r *api.Revision) {
	fmt.Fprintf(w, "revision %d is proposed (%s)\n%s: crossdock policy approve %d\n", r.Number, r.Digest, a.whoApproves(), r.Number)
}

func revisionNumber(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, usageError("%q is not the number of a revision; see crossdock policy history", text)
	}
	return n, nil
}

func (a *app) policyApprove() *cobra.Command {
	var digest string
	var canary []string
	cmd := &cobra.Command{
		Use: "approve NUMBER", Short: "Put a proposed revision in force", Args: cobra.ExactArgs(1),
		Long: `Put a proposed revision in force.

Shows what the revision changes and approves exactly that content. With --digest, only
the content that you have looked at elsewhere is approved. With --canary it is in force at
these sites first, until you promote or withdraw it.`,
		RunE: a.do(func(ctx context.Context, args []string) error {
			number, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			at := fmt.Sprintf("/revisions/%d", number)
			if digest == "" {
				if digest, err = a.look(ctx, c, at); err != nil {
					return err
				}
			}
			var out api.Revision
			if err := c.post(ctx, at+"/approve", api.Approval{Digest: digest, Canary: canary}, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeApproved(w, &out) })
		}),
	}
	cmd.Flags().StringSliceVar(&canary, "canary", nil, "sites that get it first, such as eu,na")
	cmd.Flags().StringVar(&digest, "digest", "", "approve only if the content has this digest")
	return cmd
}

// look shows what a revision changes, on stderr, and gives the digest of what was shown.
func (a *app) look(ctx context.Context, c *client, at string) (string, error) {
	var revision api.Revision
	if err := c.get(ctx, at, nil, &revision); err != nil {
		return "", err
	}
	var diff api.Diff
	if err := c.get(ctx, at+"/diff", nil, &diff); err != nil {
		return "", err
	}
	fmt.Fprintf(a.stderr, "revision %d by %s: %s\n", revision.Number, clean(revision.Author), clean(revision.Note))
	changes := make([]policy.Change, len(diff.Changes))
	for i, one := range diff.Changes {
		changes[i] = policy.Change{Kind: one.Kind, Name: one.Name, Change: one.Change, Fields: one.Fields, Replaces: one.Replaces}
	}
	writeChanges(a.stderr, changes)
	return revision.Digest, nil
}

func (a *app) policyHistory() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history", Short: "List revisions, newest first", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.RevisionList
			if err := c.get(ctx, "/revisions", url.Values{"limit": {strconv.Itoa(limit)}}, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				row(w, "REVISION", "STATE", "AUTHOR", "APPROVER", "PROPOSED", "APPROVED", "NOTE")
				for i := range out.Items {
					r := &out.Items[i]
					row(w, r.Number, stateOf(r), r.Author, r.Approver, when(r.Proposed), when(r.Approved), oneLine(r.Note))
				}
			})
		}),
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many")
	return cmd
}

func (a *app) policyRollback() *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: "rollback NUMBER", Short: "Propose the documents of an earlier revision again", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			number, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			var out api.Revision
			if err := c.post(ctx, fmt.Sprintf("/revisions/%d/rollback", number), api.Rollback{Note: note}, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { a.writeProposed(w, &out) })
		}),
	}
	cmd.Flags().StringVarP(&note, "message", "m", "", "why")
	return cmd
}

func (a *app) policyShow() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "show [NUMBER]", Short: "Show a revision, or the one in force, and its files", Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			number := uint64(0)
			if len(args) == 1 {
				var err error
				if number, err = revisionNumber(args[0]); err != nil {
					return err
				}
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.showRevision(ctx, c, number, dir)
		}),
	}
	cmd.Flags().StringVar(&dir, "write", "", "write the documents to this new folder")
	return cmd
}

func (a *app) showRevision(ctx context.Context, c *client, number uint64, dir string) error {
	if number == 0 {
		var active api.Revision
		if err := c.get(ctx, "/revisions/active", nil, &active); err != nil {
			return err
		}
		number = active.Number
	}
	var out api.RevisionBundle
	if err := c.get(ctx, fmt.Sprintf("/revisions/%d/bundle", number), nil, &out); err != nil {
		return err
	}
	if dir != "" {
		if err := writeDocuments(dir, out.Bundle); err != nil {
			return err
		}
	}
	return a.show(out, func(w io.Writer) {
		r := &out.Revision
		row(w, "revision", fmt.Sprintf("%d.%d", r.Generation, r.Number))
		row(w, "state", stateOf(r))
		row(w, "digest", r.Digest)
		row(w, "note", oneLine(r.Note))
		row(w, "author", fmt.Sprintf("%s at %s", r.Author, when(r.Proposed)))
		if r.Approver != "" {
			row(w, "approver", fmt.Sprintf("%s at %s", r.Approver, when(r.Approved)))
		}
		row(w, "sites", strings.Join(r.Sites, " "))
		for _, name := range sortedNames(out.Bundle) {
			row(w, "file", fmt.Sprintf("%s (%s)", name, counted(len(out.Bundle[name]), "byte", "bytes")))
		}
	})
}

func sortedNames(documents api.Documents) []string {
	names := make([]string, 0, len(documents))
	for name := range documents {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// writeDocuments writes below a new folder and nowhere else, whatever the paths say.
func writeDocuments(dir string, documents api.Documents) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return usageError("--write needs a folder that does not exist yet: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range sortedNames(documents) {
		if parent := path.Dir(name); parent != "." {
			if err := root.MkdirAll(filepath.FromSlash(parent), 0o755); err != nil {
				return err
			}
		}
		if err := root.WriteFile(filepath.FromSlash(name), []byte(documents[name]), 0o644); err != nil {
			return err
		}
	}
	return nil
}
