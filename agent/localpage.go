package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/page"
	"github.com/crossdock/crossdock/agent/pluginhost"
	"github.com/crossdock/crossdock/agent/space"
	"github.com/crossdock/crossdock/protocol/block"
)

// openPage makes the page that a person sees at the operators' port.
func (a *Agent) openPage() (err error) {
	a.page, err = page.New(page.Config{Source: pageSource{a}, Token: func(given string) bool { return a.ops.Holds(given) },
		Hint: a.cfg.tokenFile(), Logger: a.log})
	return err
}

// pageSource tells the page how the agent is, in words.
type pageSource struct{ agent *Agent }

var _ page.Source = pageSource{}

func (p pageSource) Examine(ctx context.Context) (out []page.Finding, at time.Time, err error) {
	report, err := p.agent.Diagnose(ctx, false)
	for _, f := range report.Findings {
		out = append(out, page.Finding{ID: f.ID, Level: pageLevel(f.Level), Seen: f.Seen, Todo: f.Todo})
	}
	return out, report.At, err
}

func pageLevel(l doctor.Level) page.Level {
	return map[doctor.Level]page.Level{doctor.OK: page.OK, doctor.Warn: page.Warn, doctor.Fail: page.Fail}[l]
}

func (p pageSource) View(context.Context) page.View {
	s := p.agent.Status()
	return page.View{Agent: s.Agent, Site: s.Site, Facts: p.facts(s), Table: []page.Table{
		p.destinations(), systemsTable(s.Systems), p.deadLetters(), p.openCalls(s.Calls), pluginsTable(s.Plugins), numbersTable(s.Numbers), p.warnings(),
	}}
}

func (p pageSource) facts(s Status) []page.Fact {
	link := page.Fact{Name: "Link", Level: page.OK, Text: fmt.Sprintf("%s to %s since %s", s.Link.Transport, s.Link.Address, moment(s.Link.Since))}
	switch {
	case s.Link.Fenced != "":
		link.Level, link.Text = page.Fail, "another copy of this agent was let in: "+s.Link.Fenced
	case !s.Link.Connected:
		link.Level, link.Text = page.Warn, "cut off since "+moment(s.Link.Since)
		if s.Link.LastError != "" {
			link.Text += ": " + s.Link.LastError
		}
		link.Text += ". The site goes on; what is for others waits here."
	case s.Link.Reason != "":
		link.Text += " (" + s.Link.Reason + ")"
	}
	policy := page.Fact{Name: "Policy", Level: page.OK, Text: fmt.Sprintf("revision %s, in force here since %s", s.Policy.Revision, moment(p.agent.revision.Since()))}
	if s.Policy.Revision == "" {
		policy.Level, policy.Text = page.Warn, "no revision yet: the control plane has to be reached once"
	}
	if s.Policy.Refused != "" {
		policy.Level, policy.Text = page.Fail, policy.Text+"; a newer one is refused: "+s.Policy.Refused
	}
	disk := page.Fact{Name: "Disk", Level: map[string]page.Level{space.OK: page.OK, space.Near: page.Warn}[s.Disk.State],
		Text: fmt.Sprintf("%.0f %% of the journal's quota of %.0f MB is used, %.0f MB of the disk are free. %s", s.Disk.Level*100, mb(s.Queue.Quota), mb(s.Disk.Free), s.Disk.Outage.Words())}
	if s.Disk.State == space.Stopped || s.Disk.State == space.Closed {
		disk.Level, disk.Text = page.Fail, "the site's systems are refused since "+moment(s.Disk.Since)+": "+s.Disk.Why+". "+disk.Text
	}
	facts := []page.Fact{link, policy, disk,
		{Name: "Events", Text: fmt.Sprintf("%d accepted here, %d received from other sites, %d still to be sent", s.Queue.Accepted, s.Queue.Received, s.Queue.Outgoing)}}
	if s.Documents.Missing > 0 {
		facts = append(facts, page.Fact{Name: "Documents", Level: page.Warn, Text: documentsText(s)})
	} else {
		facts = append(facts, page.Fact{Name: "Documents", Text: documentsText(s)})
	}
	return append(facts,
		page.Fact{Name: "Certificate", Text: "until " + moment(s.Certificate) + ", renewed by itself"},
		page.Fact{Name: "Version", Text: fmt.Sprintf("%s, running since %s, epoch %d", s.Version, moment(s.Started), s.Epoch)},
		page.Fact{Name: "Data", Text: s.Data})
}

func documentsText(s Status) string {
	d := s.Documents
	return fmt.Sprintf("%d, %.1f of %.0f MB; %d arriving, %d missing", d.Count, mb(d.Bytes), mb(d.Quota), d.Arriving, d.Missing)
}

// destinations says what waits to be sent, to whom, and since when.
func (p pageSource) destinations() page.Table {
	t := page.Table{ID: "destinations", Title: "What waits to be sent", Empty: "Nothing waits to be sent to other sites.", Head: []string{"Destination", "Waiting", "Oldest"}}
	waiting := p.agent.outbox.waiting()
	slices.SortFunc(waiting, func(x, y waitingFor) int { return cmp.Compare(x.destination, y.destination) })
	for _, w := range waiting {
		oldest := "not known"
		if pos, err := p.agent.journal.Seek(w.destination, w.next); err == nil {
			if item, err := p.agent.journal.Get(journal.Ref{Pos: pos}); err == nil {
				oldest = age(item.Head.Received)
			}
		}
		row := page.Row{Cells: []string{w.destination, fmt.Sprint(w.count), oldest}}
		if w.destination == block.Control {
			row.Cells[0] = "control plane"
		}
		if w.count == 0 {
			row.Cells[1] = "pieces of documents"
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func systemsTable(systems []SystemStatus) page.Table {
	t := page.Table{ID: "systems", Title: "Systems of this site", Empty: "The policy names no system of this site.",
		Head: []string{"System", "State", "Waiting", "Oldest", "Parked", "Dead letters", "Delivered", "Last error"}}
	for _, y := range systems {
		row := page.Row{Cells: []string{y.System, y.Words(), fmt.Sprint(y.Pending), "", fmt.Sprint(y.Parked), fmt.Sprint(y.DeadLetters), fmt.Sprint(y.Delivered), ""}}
		if y.OldestAgeMs > 0 {
			row.Cells[3] = span(time.Duration(y.OldestAgeMs) * time.Millisecond)
		}
		switch {
		case y.Held != "":
			row.Level, row.Cells[7] = page.Warn, "held: "+y.Held
		case y.LastError != "":
			row.Level, row.Cells[7] = page.Warn, moment(y.LastErrorAt)+": "+y.LastError
		}
		if y.Intake != "" {
			row.Level, row.Cells[1], row.Cells[7] = page.Fail, row.Cells[1]+", cannot post", y.Intake+" "+row.Cells[7]
		}
		if y.DeadLetters > 0 || y.State == delivery.SystemMisconfigured || y.State == delivery.SystemNoDriver {
			row.Level = page.Fail
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (p pageSource) deadLetters() page.Table {
	t := page.Table{ID: "deadletters", Title: "Dead letters", Empty: "No delivery has failed for good.", Head: []string{"System", "Key", "Event", "Since", "Cause", "Waiting behind it"}}
	letters, err := p.agent.delivery.DeadLetters()
	if err != nil {
		t.Empty = "They cannot be read: " + err.Error()
	}
	slices.SortFunc(letters, func(x, y delivery.DeadLetter) int { return y.At.Compare(x.At) })
	for _, l := range letters {
		if l.State == delivery.DeadLetterOpen || l.State == delivery.DeadLetterReplaying {
			t.Rows = append(t.Rows, page.Row{Level: page.Fail, Cells: []string{l.System, l.Key, l.Type + " " + l.EventID, moment(l.At), l.Cause, fmt.Sprint(l.Waiting)}})
		}
	}
	return t
}

func (p pageSource) openCalls(s calls.Status) page.Table {
	t := page.Table{ID: "calls", Title: "Calls that wait", Empty: "No call to a carrier or tax engine waits.", Head: []string{"Plugin", "Operation", "State", "Asked for", "By", "Why it waits"}}
	list, _, err := p.agent.calls.Calls("", "", calls.Page{Limit: calls.MaxList})
	if err != nil {
		t.Empty = "They cannot be read: " + err.Error()
	}
	for _, c := range list {
		row := page.Row{Cells: []string{c.Plugin, c.Operation + " " + c.Reference, string(c.State), age(c.Began), c.System, ""}}
		if c.Late || c.State == calls.Unknown {
			row.Level = page.Warn
		}
		if c.Failure != nil {
			row.Cells[5] = c.Failure.Error()
		}
		t.Rows = append(t.Rows, row)
	}
	t.More = max(s.Queued+s.Unknown+s.Begun-len(list), 0)
	return t
}

func pluginsTable(plugins []PluginStatus) page.Table {
	t := page.Table{ID: "plugins", Title: "Plugins", Empty: "The policy has no plugin for this site.", Head: []string{"Plugin", "State", "Since", "Version", "Crashes", "Last error"}}
	for _, g := range plugins {
		row := page.Row{Cells: []string{g.Plugin, g.State, moment(g.Since), g.Version, fmt.Sprint(g.Crashes), g.LastError}}
		if g.State != pluginhost.StateRunning {
			row.Level = page.Fail
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func numbersTable(numbers []NumbersStatus) page.Table {
	t := page.Table{ID: "numbers", Title: "Numbers", Empty: "The policy has no number range for this site.", Head: []string{"Range", "Left", "Used", "No more because"}}
	for _, n := range numbers {
		row := page.Row{Cells: []string{n.Range, fmt.Sprint(n.Left), fmt.Sprint(n.Used), n.Refused}}
		switch {
		case n.Left == 0:
			row.Level = page.Fail
		case n.Left < n.Low:
			row.Level = page.Warn
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (p pageSource) warnings() page.Table {
	t := page.Table{ID: "log", Title: fmt.Sprintf("Last warnings of the log (up to %d since the start)", maxWarnings), Empty: "There was none since the start.", Head: []string{"When", "Level", "What"}}
	for _, w := range p.agent.warned.list() {
		row := page.Row{Level: page.Warn, Cells: []string{moment(w.at), "warning", w.text}}
		if w.level >= slog.LevelError {
			row.Level, row.Cells[1] = page.Fail, "error"
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

// moment is a time for people of this place, and how long ago that is.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if time.Now().Before(t) {
		return t.Local().Format(time.DateTime)
	}
	return t.Local().Format(time.DateTime) + " (" + age(t) + ")"
}

func age(t time.Time) string { return span(time.Since(t)) + " ago" }

func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d s", max(int(d.Seconds()), 0))
}
