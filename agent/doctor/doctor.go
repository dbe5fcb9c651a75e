// Package doctor owns the questions that a person asks first when a site does not work:
// can the control plane be reached over UDP and TCP, is the clock right, is the disk fit
// and quick enough, is the certificate good, is there a policy, does each system answer.
//
// It refuses to repair anything and to know how the agent works; what it needs is handed
// to it. Its invariant: every finding says what was seen and, unless all is well, what to
// do; what could not be looked at is never reported as well.
package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Level is how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is the outcome of one check.
type Finding struct {
	ID    string `json:"id"`
	Level Level  `json:"level"`
	Seen  string `json:"seen"`
	Todo  string `json:"todo,omitempty"`
}

// Worst is the worst level among findings.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		if f.Level == Fail || f.Level == Warn && worst == OK {
			worst = f.Level
		}
	}
	return worst
}

// Bounds beyond which a finding is no longer well.
const (
	slowSync    = 20 * time.Millisecond // an fsync; every accepted event waits for one
	verySlow    = 250 * time.Millisecond
	syncSamples = 16
	maxSkew     = 5 * time.Second
	lowDays     = 2 * time.Hour // of a certificate that renews itself
)

// Plain puts an error into one line, and one that only says that time ran out into words.
func Plain(err error, took time.Duration) string {
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("no answer within %s", max(took.Round(time.Second), time.Second))
	}
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// Summary counts what is not well.
func Summary(findings []Finding) string {
	failed, warnings := 0, 0
	for _, f := range findings {
		switch f.Level {
		case Fail:
			failed++
		case Warn:
			warnings++
		}
	}
	noun := "warnings"
	if warnings == 1 {
		noun = "warning"
	}
	return fmt.Sprintf("%d failed, %d %s", failed, warnings, noun)
}

// Disk measures how long a durable write takes where the journal is.
func Disk(dir string, free int64, quota int64) []Finding {
	space := Finding{ID: "disk-space", Level: OK, Seen: fmt.Sprintf("%d MB free, the journal may take %d MB", free>>20, quota>>20)}
	if free < quota/10 {
		space.Level, space.Todo = Warn, "free space below "+dir+" or lower journal.quota: intake stops at 90 percent of what there is"
	}
	took, err := syncTime(dir)
	if err != nil {
		return []Finding{space, {ID: "disk-sync", Level: Fail, Seen: err.Error(), Todo: "make " + dir + " writable for the agent's user"}}
	}
	sync := Finding{ID: "disk-sync", Level: OK, Seen: fmt.Sprintf("a durable write takes %.1f ms (median of %d)", float64(took.Microseconds())/1000, syncSamples)}
	switch {
	case took > verySlow:
		sync.Level, sync.Todo = Fail, "this disk is too slow for a journal: use a local disk, not a network share"
	case took > slowSync:
		sync.Level, sync.Todo = Warn, "every accepted event waits for such a write; a faster disk makes intake faster"
	}
	return []Finding{space, sync}
}

func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	block := make([]byte, 4096)
	for range syncSamples {
		begun := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// Certificate checks what the agent proves its identity with.
func Certificate(leaf *x509.Certificate, now time.Time) Finding {
	f := Finding{ID: "certificate", Level: OK, Seen: fmt.Sprintf("valid until %s, renewed by itself", leaf.NotAfter.Local().Format(time.DateTime))}
	switch left := leaf.NotAfter.Sub(now); {
	case left <= 0:
		f.Level, f.Seen = Fail, "expired on "+leaf.NotAfter.Local().Format(time.DateTime)
		f.Todo = "it renews when the control plane is reached; after a very long outage enrol again with a new join token"
	case left < lowDays:
		f.Level, f.Todo = Warn, "it should have been renewed by now: mend the link to the control plane"
	}
	return f
}

// Port checks that a port answers, when the agent runs, or is free, when it does not.
func Port(id, address string, running bool) Finding {
	f := Finding{ID: id, Level: OK}
	if running {
		c, err := net.DialTimeout("tcp", address, 2*time.Second)
		if err != nil {
			f.Level, f.Seen, f.Todo = Fail, err.Error(), "see the agent's log for why it does not listen"
			return f
		}
		c.Close()
		f.Seen = "the agent listens on " + address
		return f
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		f.Level, f.Seen, f.Todo = Fail, err.Error(), "another program has this port: stop it, or set another in the configuration"
		return f
	}
	l.Close()
	f.Seen = address + " is free; the agent is not running"
	return f
}

// OtherAgent tells whose port it is that this agent is to have.
func OtherAgent(id, address, who string) Finding {
	return Finding{ID: id, Level: Fail, Seen: "the agent is not running here: " + address + " is the port of " + who,
		Todo: "give each agent of this machine ports of its own (intake.listen, ops.listen), or name the right configuration with -c"}
}

// Policy tells which revision the agent would start with.
func Policy(revision, refused string) Finding {
	switch {
	case refused != "":
		return Finding{ID: "policy", Level: Fail, Seen: refused, Todo: "bring the agent to the control plane's version, or roll the revision back"}
	case revision == "":
		return Finding{ID: "policy", Level: Warn, Seen: "no revision held", Todo: "approve a revision at the control plane, and let the agent reach it once"}
	}
	return Finding{ID: "policy", Level: OK, Seen: "revision " + revision + " is held"}
}

// Held tells of a system that gets nothing for now, and why.
func Held(system, why string) Finding {
	return Finding{ID: "system-" + system, Level: Warn, Seen: "held: " + why,
		Todo: "nothing, if the move goes on; see at the control plane what is pending for the old system, or have an operator release the new one"}
}

// FewNumbers tells of a number range that is nearly or quite used up here.
func FewNumbers(name string, left, low uint64, refused string) Finding {
	f := Finding{ID: "numbers-" + name, Level: Warn, Seen: fmt.Sprintf("%d numbers left, fewer than %d", left, low),
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

// UDPBuffer warns where the kernel gives QUIC little room.
func UDPBuffer() Finding {
	const wanted = 7 << 20
	f := Finding{ID: "udp-buffer", Level: OK}
	if runtime.GOOS != "linux" {
		f.Seen = "not limited on " + runtime.GOOS
		return f
	}
	text, err := os.ReadFile(filepath.Join("/proc/sys/net/core", "rmem_max"))
	var have int
	if _, scanErr := fmt.Sscan(string(text), &have); err != nil || scanErr != nil {
		f.Level, f.Seen, f.Todo = Warn, "net.core.rmem_max could not be read", "see that it is at least 7500000"
		return f
	}
	f.Seen = fmt.Sprintf("net.core.rmem_max is %d", have)
	if have < wanted {
		f.Level, f.Todo = Warn, "sysctl -w net.core.rmem_max=7500000 net.core.wmem_max=7500000 lets QUIC run at full speed"
	}
	return f
}
