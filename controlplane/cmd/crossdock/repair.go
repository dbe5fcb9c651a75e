package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) deadLettersCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{Use: "deadletters", Short: "Deliveries that failed for good: list, show, replay, discard"})
	cmd.AddCommand(a.deadLettersList(), a.deadLettersShow(), a.deadLettersReplay(), a.deadLettersDiscard())
	return cmd
}

func (a *app) deadLettersList() *cobra.Command {
	var state, system, agent, key, cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, newest first", Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{"system": system, "agent": agent, "key": key, "cursor": cursor} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if state != "all" {
				if !api.DeadLetterState(state).Valid() {
					return usageError("--state %q is none of open, replaying, delivered, discarded, all", state)
				}
				query.Set("state", state)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			var out api.DeadLetterList
			if err := c.get(ctx, "/deadletters", query, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				row(w, "ID", "STATE", "SYSTEM", "KEY", "TYPE", "ATTEMPTS", "WAITING", "AT", "CAUSE")
				for _, d := range out.Items {
					row(w, d.ID, d.State, d.System, d.Key, d.Type, d.Attempts, d.Waiting, when(d.At), oneLine(d.Cause))
				}
				if out.NextCursor != "" {
					fmt.Fprintf(a.stderr, "there are more: --cursor %s\n", clean(out.NextCursor))
				}
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", string(api.DeadLetterStateOpen), "open, replaying, delivered, discarded or all")
	f.StringVar(&system, "system", "", "only of this system")
	f.StringVar(&agent, "agent", "", "only of this agent")
	f.StringVar(&key, "key", "", "only of this key")
	f.StringVar(&cursor, "cursor", "", "go on from here")
	f.IntVar(&limit, "limit", 100, "how many")
	return cmd
}

func letterPath(id string) string { return "/deadletters/" + url.PathEscape(id) }

func (a *app) deadLettersShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a dead letter with its event and what the system said", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var d api.DeadLetter
			if err := c.get(ctx, letterPath(args[0]), nil, &d); err != nil {
				return err
			}
			return a.show(d, func(w io.Writer) { writeDeadLetter(w, &d) })
		}),
	}
}

func writeDeadLetter(w io.Writer, d *api.DeadLetter) {
	row(w, "id", d.ID)
	row(w, "state", d.State)
	row(w, "at", when(d.At))
	row(w, "agent", d.Agent)
	row(w, "system", d.System)
	row(w, "route", d.Route)
	row(w, "type", d.Type)
	row(w, "event", d.EventID)
	row(w, "source", d.Source)
	row(w, "key", d.Key)
	row(w, "cause", oneLine(d.Cause))
	if d.Status != 0 {
		row(w, "status", d.Status)
	}
	row(w, "attempts", d.Attempts)
	row(w, "waiting", counted(d.Waiting, "later event of this key", "later events of this key"))
	row(w, "on exhausted", d.OnExhausted)
	if d.By != "" {
		row(w, "by", d.By)
		row(w, "reason", oneLine(d.Reason))
	}
	if d.Answer != "" {
		fmt.Fprintf(w, "\nanswer:\n%s\n", clean(d.Answer))
	}
	if len(d.Event) > 0 {
		fmt.Fprintf(w, "\nevent:\n%s\n", clean(string(d.Event)))
	}
}

func (a *app) deadLettersReplay() *cobra.Command {
	var in api.Replay
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "replay ID", Short: "Deliver it again, with the same idempotency key", Args: cobra.ExactArgs(1),
		Long: `Deliver it again, with the same idempotency key.

Its agent is told as soon as it is connected. With --wait (a minute) or --wait=5m, the
command ends when it is delivered; the exit code is 1 when it failed again or is not done
by then, which does not call it off.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var d api.DeadLetter
			if err := c.post(ctx, letterPath(args[0])+"/replay", in, &d); err != nil {
				return err
			}
			if wait > 0 {
				var err error
				if d, err = c.awaitReplay(ctx, d, wait); err != nil {
					return err
				}
			}
			return a.show(d, func(w io.Writer) { writeReplay(w, &d) })
		}),
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait until it is delivered, for so long at most")
	cmd.Flags().Lookup("wait").NoOptDefVal = defaultWait.String()
	cmd.Flags().BoolVar(&in.Confirm, "confirm-out-of-order", false, "later events of the key went on already, and that is fine")
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why")
	return cmd
}

// How long a replay is waited for when nobody says, and how often it is looked at.
const (
	defaultWait = time.Minute
	waitPause   = 500 * time.Millisecond
)

// awaitReplay looks until the agent of a dead letter has said how it went.
func (c *client) awaitReplay(ctx context.Context, d api.DeadLetter, wait time.Duration) (api.DeadLetter, error) {
	end := time.NewTimer(wait)
	defer end.Stop()
	for d.State == api.DeadLetterStateReplaying {
		select {
		case <-time.After(waitPause):
		case <-ctx.Done():
			return d, ctx.Err()
		case <-end.C:
			return d, &exitError{exitFailed, fmt.Errorf(
				"%s is not delivered after %v; it stays asked for: crossdock deadletters show, and crossdock agents show %s", d.ID, wait, d.Agent)}
		}
		var now api.DeadLetter
		if err := c.get(ctx, letterPath(d.ID), nil, &now); err != nil {
			return d, err
		}
		d = now
	}
	if d.State == api.DeadLetterStateOpen {
		return d, &exitError{exitFailed, fmt.Errorf("%s failed again after %s: %s", d.ID, counted(d.Attempts, "attempt", "attempts"), oneLine(d.Cause))}
	}
	return d, nil
}

func writeReplay(w io.Writer, d *api.DeadLetter) {
	switch d.State {
	case api.DeadLetterStateReplaying:
		fmt.Fprintf(w, "%s is replaying; its agent is told as soon as it is connected\n", clean(d.ID))
	default:
		fmt.Fprintf(w, "%s is %s\n", clean(d.ID), d.State)
	}
}

func (a *app) deadLettersDiscard() *cobra.Command {
	var in api.Reason
	cmd := &cobra.Command{
		Use: "discard ID --reason WHY", Short: "Give it up; what waits behind it goes on", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var d api.DeadLetter
			if err := c.post(ctx, letterPath(args[0])+"/discard", in, &d); err != nil {
				return err
			}
			return a.show(d, func(w io.Writer) {
				fmt.Fprintf(w, "%s is given up; its agent is told as soon as it is connected\n", clean(d.ID))
			})
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why; it stands in the audit")
	must(cmd.MarkFlagRequired("reason"))
	return cmd
}

func (a *app) exceptionsCommand() *cobra.Command {
	var limit int
	list := a.ask(func(ctx context.Context, c *client, _ []string) error {
		var out api.ExceptionList
		if err := c.get(ctx, "/exceptions", url.Values{"limit": {strconv.Itoa(limit)}}, &out); err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) {
			row(w, "ID", "AT", "AGENT", "KIND", "RESOLVED", "TEXT")
			for _, e := range out.Items {
				row(w, e.ID, when(e.At), e.Agent, e.Kind, e.By, oneLine(e.Text))
			}
		})
	})
	cmd := &cobra.Command{Use: "exceptions", Short: "What else a person must look at", Args: cobra.NoArgs, RunE: list}
	cmd.Flags().IntVar(&limit, "limit", 100, "how many")
	var in api.Reason
	resolve := &cobra.Command{
		Use: "resolve ID --reason WHAT", Short: "Say that it has been looked at", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			if err := c.post(ctx, "/exceptions/"+url.PathEscape(args[0])+"/resolve", in, nil); err != nil {
				return err
			}
			fmt.Fprintln(a.stderr, "noted")
			return nil
		}),
	}
	resolve.Flags().StringVar(&in.Reason, "reason", "", "what was found; it stands in the audit")
	must(resolve.MarkFlagRequired("reason"))
	cmd.AddCommand(resolve)
	return cmd
}

func (a *app) auditCommand() *cobra.Command {
	var cursor string
	var limit int
	var oldest bool
	list := a.ask(func(ctx context.Context, c *client, _ []string) error {
		query := url.Values{"limit": {strconv.Itoa(limit)}, "newest": {strconv.FormatBool(!oldest)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		var out api.AuditList
		if err := c.get(ctx, "/audit", query, &out); err != nil {
			return err
		}
		return a.show(out, func(w io.Writer) {
			row(w, "NUMBER", "AT", "BY", "ACTION", "OBJECT", "DETAIL")
			for _, e := range out.Items {
				row(w, e.Number, when(e.At), e.By, e.Action, e.Object, oneLine(string(e.Detail)))
			}
			if out.NextCursor != "" {
				fmt.Fprintf(a.stderr, "there are more: --cursor %s\n", clean(out.NextCursor))
			}
		})
	})
	cmd := &cobra.Command{Use: "audit", Short: "Who changed what, newest first", Args: cobra.NoArgs, RunE: list}
	cmd.Flags().BoolVar(&oldest, "oldest", false, "oldest first")
	cmd.Flags().StringVar(&cursor, "cursor", "", "go on from here, in the same order")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many")
	cmd.AddCommand(&cobra.Command{
		Use: "verify", Short: "Compute the record's chain of hashes anew; exit code 1 if it is broken", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.AuditCheck
			if err := c.get(ctx, "/audit/verify", nil, &out); err != nil {
				return err
			}
			if err := a.show(out, func(w io.Writer) {
				if out.Ok {
					fmt.Fprintf(w, "ok: %s, head %s\n", counted(out.Entries, "entry", "entries"), out.Head)
				}
			}); err != nil || out.Ok {
				return err
			}
			return &exitError{exitFailed, fmt.Errorf("the audit record is broken: %s", out.Detail)}
		}),
	})
	return cmd
}
