package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
)

// statusAnswer is what status shows as JSON.
type statusAnswer struct {
	Health  api.Health  `json:"health"`
	Cluster api.Cluster `json:"cluster"`
	Agents  []api.Agent `json:"agents"`

	Unattended []api.Unattended `json:"unattended"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the cluster, the policy in force and the agents", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out statusAnswer
			if err := c.get(ctx, "/health", nil, &out.Health); err != nil {
				return err
			}
			if err := c.get(ctx, "/cluster", nil, &out.Cluster); err != nil {
				return err
			}
			var agents api.AgentList
			if err := c.get(ctx, "/agents", nil, &agents); err != nil {
				return err
			}
			out.Agents, out.Unattended = agents.Items, agents.Unattended
			return a.show(out, func(w io.Writer) { writeStatus(w, &out) })
		}),
	}
}

func writeStatus(w io.Writer, s *statusAnswer) {
	row(w, "cluster", s.Cluster.ID)
	row(w, "generation", s.Cluster.Generation)
	row(w, "approvals", s.Cluster.Approvals)
	row(w, "ready", yes(s.Health.Ready))
	writeState(w, &s.Cluster)
	if s.Cluster.Active.Number == 0 {
		row(w, "policy", "none in force")
	} else {
		row(w, "policy", fmt.Sprintf("revision %d, approved by %s at %s", s.Cluster.Active.Number, s.Cluster.Active.Approver, when(s.Cluster.Active.Approved)))
	}
	if s.Cluster.Canary.Number != 0 {
		row(w, "canary", fmt.Sprintf("revision %d at %s", s.Cluster.Canary.Number, strings.Join(s.Cluster.Canary.Canary, ", ")))
	}
	fmt.Fprintln(w)
	writeAgents(w, s.Agents, s.Unattended)
}

func writeAgents(w io.Writer, agents []api.Agent, unattended []api.Unattended) {
	row(w, "AGENT", "LINK", "SEEN", "REVISION", "OUT", "WAITING", "DELIVERED", "DEAD", "PARKED", "MAILBOX", "VERSION")
	for i := range agents {
		status := statusOf(&agents[i])
		row(w, agents[i].Name, link(&agents[i], &status), age(agents[i].LastSeen), revisionOf(&status), status.Outgoing,
			status.Pending, status.Delivered, status.DeadLetters, status.Parked, agents[i].MailboxEvents, shortVersion(status.Version))
	}
	if len(unattended) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "SITE WITHOUT AGENT", "MAILBOX", "BYTES", "OLDEST", "NEXT")
	for _, u := range unattended {
		row(w, u.Site, u.Events, u.Bytes, age(u.Since), cmp.Or(u.Next, "crossdock token create --site "+u.Site))
	}
}

func revisionOf(status *model.AgentStatus) string {
	if status.Revision.Number == 0 {
		return "-"
	}
	return status.Revision.String()
}

// statusOf reads an agent's own counters; an agent of another version may say less.
func statusOf(agent *api.Agent) model.AgentStatus {
	var status model.AgentStatus
	if json.Unmarshal(agent.Status, &status) != nil {
		return model.AgentStatus{}
	}
	return status
}

func link(agent *api.Agent, status *model.AgentStatus) string {
	switch {
	case !agent.Revoked.IsZero():
		return "revoked"
	case agent.Connected && status.Transport != "":
		return status.Transport
	case agent.Connected:
		return "up"
	}
	return "down"
}

func writeAgent(w io.Writer, agent *api.Agent) {
	status := statusOf(agent)
	row(w, "agent", agent.Name)
	row(w, "site", agent.Site)
	row(w, "epoch", agent.Epoch)
	row(w, "enrolled", when(agent.Enrolled))
	row(w, "link", link(agent, &status))
	row(w, "seen", age(agent.LastSeen))
	row(w, "node", agent.Node)
	if agent.Allowed.After(time.Now()) {
		row(w, "allowed", "an old copy of it is let in once, until "+when(agent.Allowed))
	}
	if !agent.Revoked.IsZero() {
		row(w, "revoked", when(agent.Revoked))
	}
	row(w, "mailbox", counted(agent.MailboxEvents, "event", "events")+", "+counted(agent.MailboxBytes, "byte", "bytes"))
	row(w, "version", shortVersion(status.Version))
	row(w, "revision", revisionOf(&status))
	if status.Refused != "" {
		row(w, "refused", oneLine(status.Refused))
	}
	row(w, "accepted", fmt.Sprintf("%d, refused %d", status.Accepted, status.Refusals))
	row(w, "outgoing", status.Outgoing)
	row(w, "received", status.Received)
	row(w, "delivered", fmt.Sprintf("%d, waiting %d, parked %d, dead %d", status.Delivered, status.Pending, status.Parked, status.DeadLetters))
	row(w, "queue", fmt.Sprintf("%d of %d bytes", status.QueueBytes, status.QueueQuota))
	if status.Disk != nil {
		row(w, "disk", diskText(status.Disk))
	}
}

// diskText says how the disk of an agent is, and for how long it holds without the line.
func diskText(d *model.AgentDisk) string {
	text := fmt.Sprintf("%s, %d MB free", d.State, d.Free>>20)
	switch d.Outage {
	case "known":
		return fmt.Sprintf("%s, room for %.1f hours without the line", text, d.Hours)
	case "unknown":
		return text + ", for how long it lasts without the line is not known yet"
	}
	return text
}

// version is set by the release build: -ldflags "-X main.version=1.2.3".
var version = ""

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version", Args: cobra.NoArgs,
		RunE: a.do(func(context.Context, []string) error {
			out := map[string]string{"version": versionText(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "crossdock %s (%s, %s/%s)\n", out["version"], out["go"], out["os"], out["arch"])
			})
		}),
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "devel"
}
