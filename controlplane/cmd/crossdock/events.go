package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) eventsCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{Use: "events", Short: "Follow events"})
	cmd.AddCommand(&cobra.Command{
		Use: "trace KEY", Short: "Follow the events of a key through every hop, with times", Args: cobra.ExactArgs(1),
		Long: `Follow the events of a key through every hop, with times.

All connected agents are asked now. Where none of them knows the key, the exit code is 1.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Trace
			if err := c.get(ctx, "/events", url.Values{"key": {args[0]}}, &out); err != nil {
				return err
			}
			if err := a.show(out, func(w io.Writer) { a.writeTrace(w, &out) }); err != nil {
				return err
			}
			return nothingTraced(&out)
		}),
	})
	return cmd
}

// nothingTraced says where an event can be of which nothing was found.
func nothingTraced(t *api.Trace) error {
	if len(t.Hops) > 0 {
		return nil
	}
	if len(t.Agents) == 0 {
		return &exitError{exitFailed, fmt.Errorf("no event with the key %q: there is no agent yet; crossdock token create begins one", t.Key)}
	}
	answered := 0
	for _, agent := range t.Agents {
		if agent.Answered {
			answered++
		}
	}
	text := fmt.Sprintf(`no agent that answered knows an event with the key %q: %d of %d answered. It may be
  not there yet: crossdock-agent status at the site counts what the agent has accepted
  let go of: an agent keeps what is delivered for its journal.retain, 7 days unless configured
  under another key: the contract says which value is the key, such as the number of an order; it is not the event's id`,
		t.Key, answered, len(t.Agents))
	if answered < len(t.Agents) {
		text += "\n  at an agent that is missing: ask again when it is connected"
	}
	return &exitError{exitFailed, errors.New(text)}
}

func (a *app) writeTrace(w io.Writer, t *api.Trace) {
	if len(t.Hops) > 0 {
		row(w, "AT", "AGENT", "HOP", "TYPE", "EVENT", "WHERE", "ATTEMPTS", "STATUS", "DETAIL")
	}
	for i := range t.Hops {
		h := &t.Hops[i]
		row(w, whenMs(h.At), h.Agent, h.Hop, h.Type, h.Event, where(h), orDash(h.Attempts), orDash(h.Status), oneLine(h.Detail))
	}
	for _, agent := range t.Agents {
		switch {
		case !agent.Answered && agent.LastSeen.IsZero():
			fmt.Fprintf(a.stderr, "missing: %s has never been seen (%s)\n", clean(agent.Agent), clean(agent.Detail))
		case !agent.Answered:
			fmt.Fprintf(a.stderr, "missing: %s, last seen %d s ago (%s)\n", clean(agent.Agent), agent.AgeSeconds, clean(agent.Detail))
		case agent.Truncated:
			fmt.Fprintf(a.stderr, "cut short: %s has more than it told\n", clean(agent.Agent))
		}
	}
}

// where names the other side of a hop.
func where(h *api.Hop) string {
	parts := make([]string, 0, 4)
	if h.Peer != "" {
		direction := "to "
		if h.Hop == "received" {
			direction = "from "
		}
		parts = append(parts, direction+h.Peer)
	}
	if h.System != "" {
		parts = append(parts, h.System)
	}
	if h.Route != "" {
		parts = append(parts, "by "+h.Route)
	}
	if h.Shadow {
		parts = append(parts, "(shadow)")
	}
	return strings.Join(parts, " ")
}

func orDash(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}
