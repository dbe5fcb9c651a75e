package doctor

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

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

// Stranger tells that who asks may not look at the agent's data, which says nothing of it.
func Stranger(dir string, err error) Finding {
	return Finding{ID: "user", Level: Fail, Seen: "the agent's data in " + dir + " is not for the user who asks (" + Plain(err, 0) + "): nothing below it was looked at",
		Todo: "run the doctor as root (Windows: as administrator) or as the agent's user: sudo crossdock-agent doctor"}
}

// NoData tells of an agent that has not begun here.
func NoData(dir string) Finding {
	return Finding{ID: "data-permissions", Level: Warn, Seen: dir + " is not there: no agent has been enrolled here",
		Todo: "enrol with a join token: crossdock-agent enroll makes it; if there was one, put the whole directory back"}
}

// UDPBuffer warns where the kernel gives QUIC little room; proc is where it says so.
func UDPBuffer(proc string) Finding {
	const wanted = 7 << 20
	f := Finding{ID: "udp-buffer", Level: OK}
	if runtime.GOOS != "linux" {
		f.Seen = "not limited on " + runtime.GOOS
		return f
	}
	text, err := os.ReadFile(filepath.Join(proc, "sys", "net", "core", "rmem_max"))
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

// TimeZone tells whether times can be shown as people read them. zone is what TZ says, empty
// for the machine's own.
func TimeZone(zone string) Finding {
	f := Finding{ID: "time-zone", Level: OK, Seen: "times are shown in " + time.Now().Format("MST (-07:00)")}
	if zone != "" {
		if _, err := time.LoadLocation(zone); err != nil {
			f.Level, f.Seen = Warn, "TZ is "+zone+", which nobody knows: times are shown in UTC"
			f.Todo = "set TZ to a name like Europe/Amsterdam, or do not set it"
			return f
		}
	}
	if _, err := time.LoadLocation("Europe/Amsterdam"); err != nil {
		f.Level, f.Seen, f.Todo = Warn, err.Error(), "install this system's time zone data (package tzdata)"
	}
	return f
}
