package doctor

import (
	"fmt"
	"time"
)

// Policy tells which revision the agent would start with, and how old it is here.
func Policy(revision, refused string, age time.Duration) Finding {
	switch {
	case refused != "":
		return Finding{ID: "policy", Level: Fail, Seen: refused, Todo: "bring the agent to the control plane's version, or roll the revision back"}
	case revision == "":
		return Finding{ID: "policy", Level: Warn, Seen: "no revision held", Todo: "approve a revision at the control plane, and let the agent reach it once"}
	}
	return Finding{ID: "policy", Level: OK, Seen: "revision " + revision + " is held, for " + since(age)}
}

// since says an age in the words of people.
func since(age time.Duration) string {
	switch {
	case age < time.Minute:
		return "less than a minute"
	case age < 2*time.Hour:
		return Count(int(age.Minutes()), "minute")
	case age < 48*time.Hour:
		return Count(int(age.Hours()), "hour")
	}
	return Count(int(age.Hours()/24), "day")
}

// Held tells of a system that gets nothing for now, and why.
func Held(system, why string) Finding {
	return Finding{ID: "system-" + system, Level: Warn, Seen: "held: " + why,
		Todo: "nothing, if the move goes on; see at the control plane what is pending for the old system, or have an operator release the new one"}
}

// FewNumbers tells of a number range that is nearly or quite used up here.
func FewNumbers(name string, left, low uint64, refused string) Finding {
	f := Finding{ID: "numbers-" + name, Level: Warn, Seen: fmt.Sprintf("%s left, fewer than %d", Count(left, "number"), low),
		Todo: "let the agent reach the control plane: it leases more by itself"}
	if left == 0 {
		f.Level = Fail
	}
	if refused != "" {
		f.Seen += "; the control plane gives no more: " + refused
		f.Todo = "have central IT look at crossdock ranges"
	}
	return f
}

// Plugin tells of a plugin that does not serve, and why.
func Plugin(name, state, why string) Finding {
	f := Finding{ID: "plugin-" + name, Level: Fail, Seen: state}
	if why != "" {
		f.Seen += ": " + why
	}
	f.Todo = "see the Plugin document, its program and this server's secrets; then crossdock-agent plugins activate " + name
	if state != "deactivated" {
		f.Level, f.Todo = Warn, "it is started again by itself, until it has crashed too often; see crossdock-agent plugins"
	}
	return f
}

// Fenced tells of a copy of this agent that was let in later.
func Fenced(why string) Finding {
	return Finding{ID: "fenced", Level: Fail, Seen: why,
		Todo: "stop one of the two copies; to go on with this one, an operator lets it in with crossdock agents allow, or it is enrolled again"}
}

// Version tells whether agent and control plane speak one version of their protocol.
func Version(program string, ours uint32, paths []Path) []Finding {
	for _, p := range paths {
		if p.Err != nil {
			continue
		}
		f := Finding{ID: "version", Level: OK, Seen: fmt.Sprintf("agent %s speaks protocol %d with the control plane", program, p.Protocol)}
		if p.Protocol < ours {
			f.Level, f.Seen = Warn, fmt.Sprintf("agent %s could speak protocol %d, the control plane speaks %d", program, ours, p.Protocol)
			f.Todo = "bring the control plane to the agent's version: it goes first, and agents may be one version behind it"
		}
		return []Finding{f}
	}
	return nil
}

// Missing tells of documents that events name and that are not here yet.
func Missing(n int) Finding {
	return Finding{ID: "documents", Level: Warn, Seen: "not here yet: " + Count(n, "document") + " that events name",
		Todo: "the events wait for them; they come with the link: see crossdock-agent documents"}
}
