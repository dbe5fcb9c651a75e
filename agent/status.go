package agent

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/sealed"
	"github.com/crossdock/crossdock/agent/space"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// Status is the agent as its own status command shows it.
type Status struct {
	Agent       string           `json:"agent"`
	Site        string           `json:"site"`
	Cluster     string           `json:"cluster"`
	Epoch       uint64           `json:"epoch"`
	Generation  uint64           `json:"generation,omitempty"` // of the control plane, as last heard of
	Data        string           `json:"data"`                 // directory
	Version     string           `json:"version"`
	Started     time.Time        `json:"started"`
	Link        uplink.State     `json:"link"`
	Policy      PolicyStatus     `json:"policy"`
	Certificate time.Time        `json:"certificateUntil"`
	Queue       QueueStatus      `json:"queue"`
	Disk        space.Status     `json:"disk"`
	Systems     []SystemStatus   `json:"systems"`
	Numbers     []NumbersStatus  `json:"numbers,omitempty"`
	Calls       calls.Status     `json:"calls"`
	Documents   documents.Status `json:"documents"`
	Config      ConfigStatus     `json:"config"`
	Plugins     []PluginStatus   `json:"plugins,omitempty"`
	Release     versions.Status  `json:"release"`
	SealingKey  string           `json:"sealingKey,omitempty"` // fingerprint of the key to which secrets are sealed
	Secrets     []sealed.Status  `json:"secrets,omitempty"`    // that are sealed to this agent
}

// PolicyStatus is the revision in force.
type PolicyStatus struct {
	Revision string `json:"revision"` // generation.number; empty: none yet
	Refused  string `json:"refused,omitempty"`
}

// SystemStatus is what a system looks like from here, both ways.
type SystemStatus struct {
	delivery.SystemStatus
	Intake string `json:"intake,omitempty"` // why it cannot post events, though the policy gives it a token
}

// QueueStatus is how full the journal is and what waits in it.
type QueueStatus struct {
	Accepted uint64  `json:"accepted"` // from systems, over the life of the journal
	Received uint64  `json:"received"`
	Repeats  uint64  `json:"repeats"`
	Outgoing uint64  `json:"outgoing"` // not taken by the relay yet
	Records  uint64  `json:"records"`
	Bytes    int64   `json:"bytes"`
	Quota    int64   `json:"quota"`
	Level    float64 `json:"level"`
}

// Status tells how the agent is.
func (a *Agent) Status() Status {
	stats, usage := a.journal.Stats(), a.queue.Usage()
	s := Status{
		Agent: a.identity.Agent, Site: a.identity.Site, Cluster: a.identity.Cluster, Epoch: a.identity.Epoch(),
		Data: a.cfg.Place(), Version: a.cfg.Version, Started: a.started, Link: a.uplink.State(), Certificate: a.identity.Certificate().NotAfter,
		Policy: PolicyStatus{Refused: a.revision.Refused()},
		Queue: QueueStatus{Accepted: stats.Accepted, Received: stats.Received, Repeats: stats.Repeats, Outgoing: a.outbox.pending(),
			Records: usage.Records, Bytes: usage.Bytes, Quota: usage.Quota, Level: usage.Level()},
		Systems: []SystemStatus{}, // an array in JSON, never null
	}
	closed := a.intake.Closed()
	for _, system := range a.delivery.Status() {
		s.Systems = append(s.Systems, SystemStatus{system, closed[system.System]})
	}
	s.Numbers, s.Plugins = a.numbersStatus(), a.plugins.status()
	s.Disk = a.disk.Status()
	s.Calls, s.Documents, s.Config = a.calls.Status(), a.documents.Status(), a.reloads.status()
	if s.Secrets = a.secretsStatus(); a.sealing.Recipient != "" {
		s.SealingKey = sealing.Fingerprint(a.sealing.Recipient)
	}
	s.Generation, _ = a.identity.Known()
	s.Release = a.versions.Status()
	if held := a.revision.Held(); held != (block.Revision{}) {
		s.Policy.Revision = held.String()
	}
	return s
}

// report is what the control plane gets of it: counters, whole, so that a lost or a
// repeated report does no harm.
type report struct {
	Version     string          `json:"version"`
	Transport   string          `json:"transport"`
	Revision    block.Revision  `json:"revision"`
	Refused     string          `json:"refused,omitempty"`
	Accepted    uint64          `json:"accepted"`
	Outgoing    uint64          `json:"outgoing"`
	Received    uint64          `json:"received"`
	Pending     uint64          `json:"pending"` // at all systems, parked ones apart
	Delivered   uint64          `json:"delivered"`
	DeadLetters uint64          `json:"deadLetters"`
	Parked      uint64          `json:"parked"`
	QueueBytes  int64           `json:"queueBytes"`
	QueueQuota  int64           `json:"queueQuota"`
	OldestMs    int64           `json:"oldestMs"`
	Disk        reportDisk      `json:"disk"`
	Numbers     []NumbersStatus `json:"numbers,omitempty"`
	Release     versions.Status `json:"release"`
	Secrets     []sealed.Status `json:"secrets,omitempty"`
	At          time.Time       `json:"at"`

	Sealing *sealing.Announcement `json:"sealing,omitempty"`
}

// reportDisk is what the control plane is told of the disk.
type reportDisk struct {
	State  string  `json:"state"`
	Free   int64   `json:"free"`
	Outage string  `json:"outage"` // state of the estimate: unknown, idle, known
	Hours  float64 `json:"hours,omitempty"`
}

func (a *Agent) report() json.RawMessage {
	s := a.Status()
	r := report{Version: s.Version, Transport: s.Link.Transport, Revision: a.revision.Held(), Refused: s.Policy.Refused,
		Accepted: s.Queue.Accepted, Outgoing: s.Queue.Outgoing, Received: s.Queue.Received,
		QueueBytes: s.Queue.Bytes, QueueQuota: s.Queue.Quota, Numbers: s.Numbers, Release: s.Release, Secrets: s.Secrets,
		Disk: reportDisk{State: s.Disk.State, Free: s.Disk.Free, Outage: s.Disk.Outage.State, Hours: s.Disk.Outage.Hours}, At: time.Now().UTC()}
	if a.sealing.Recipient != "" {
		r.Sealing = a.sealing
	}
	for _, system := range s.Systems {
		r.Pending += system.Pending
		r.Delivered += system.Delivered
		r.DeadLetters += uint64(system.DeadLetters)
		r.Parked += uint64(system.Parked)
		r.OldestMs = max(r.OldestMs, system.OldestAgeMs)
	}
	text, err := r.text()
	if err != nil {
		a.log.Error("status cannot be written", "err", err)
		return nil
	}
	return text
}

// Limits of a report. One that is too long is refused with the acknowledgement that it goes with.
const (
	maxReport  = 60 << 10
	maxRefused = 300 // bytes of why something was refused
	maxHosts   = 120 // bytes of the hosts of a secret
)

// fewHosts cuts the hosts of a secret: that there are some shows in any case.
func fewHosts(only []string) []string {
	bytes := 0
	for i, host := range only {
		if bytes += len(host); bytes > maxHosts {
			return append(slices.Clone(only[:i]), "...")
		}
	}
	return only
}

// text cuts the report so that it is taken.
func (r report) text() (text []byte, err error) {
	r.Refused, r.Release.Why = clipped(r.Refused), clipped(r.Release.Why)
	r.Numbers = slices.Clone(r.Numbers)
	for i := range r.Numbers {
		r.Numbers[i].Refused = clipped(r.Numbers[i].Refused)
	}
	r.Secrets = slices.Clone(r.Secrets)
	for i := range r.Secrets {
		r.Secrets[i].Refused, r.Secrets[i].Only = clipped(r.Secrets[i].Refused), fewHosts(r.Secrets[i].Only)
	}
	for {
		if text, err = json.Marshal(r); err != nil || len(text) <= maxReport || len(r.Numbers)+len(r.Secrets) == 0 {
			return text, err
		}
		r.Numbers, r.Secrets = r.Numbers[:len(r.Numbers)*3/4], r.Secrets[:len(r.Secrets)*3/4]
	}
}

func clipped(text string) string {
	if len(text) <= maxRefused {
		return text
	}
	return strings.ToValidUTF8(text[:maxRefused], "") + "..."
}
