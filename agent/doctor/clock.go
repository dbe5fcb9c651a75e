package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/beevik/ntp"
)

const (
	maxSkew    = 5 * time.Second
	maxNTPSkew = time.Second
	ntpTimeout = 3 * time.Second
)

// Clock compares clocks by what the paths saw; now is what ours says.
func Clock(paths []Path, now time.Time) Finding {
	for _, p := range paths {
		if p.Err != nil {
			continue
		}
		f := Finding{ID: "clock", Level: OK, Seen: fmt.Sprintf("the control plane's clock is %+d ms off ours", p.Skew.Milliseconds())}
		if p.Skew.Abs() > maxSkew {
			f.Level, f.Todo = Warn, "set up time synchronisation (NTP): times in traces and milestones come from this clock"
		}
		return f
	}
	for _, p := range paths {
		if untimely(p.Err) {
			return Finding{ID: "clock", Level: Warn, Seen: "this clock says " + now.Local().Format(time.DateTime) + ", and at that time the control plane's certificate is not valid: " + Plain(p.Err, p.Took),
				Todo: "is that the time? If not, set this clock, and have it kept (timedatectl set-ntp true; Windows: w32tm /resync); if it is, the control plane's clock is the wrong one"}
		}
	}
	return Finding{ID: "clock", Level: Warn, Seen: "not compared: the control plane was not reached", Todo: "mend the link first"}
}

// NTP asks a time server; with none named it looks at what systemd-timesyncd says below run,
// and finds nothing where that does not run.
func NTP(server, run string) []Finding {
	if server == "" {
		return timesyncd(run)
	}
	f := Finding{ID: "clock-ntp", Level: OK}
	answer, err := ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: ntpTimeout})
	if err == nil {
		err = answer.Validate()
	}
	switch {
	case err != nil:
		f.Level, f.Seen = Warn, server+": "+Plain(err, ntpTimeout)
		f.Todo = "let this server ask it over UDP port 123, or correct doctor.ntp"
		return []Finding{f}
	case answer.ClockOffset.Abs() > maxSkew:
		f.Level, f.Todo = Fail, "set this clock, and have it kept: certificates, deadlines and times in traces come from it"
	case answer.ClockOffset.Abs() > maxNTPSkew:
		f.Level, f.Todo = Warn, "set up time synchronisation on this server"
	}
	f.Seen = fmt.Sprintf("%s is %+d ms off our clock", server, answer.ClockOffset.Milliseconds())
	return []Finding{f}
}

func timesyncd(run string) []Finding {
	dir := filepath.Join(run, "systemd", "timesync")
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	f := Finding{ID: "clock-ntp", Level: OK}
	switch info, err := os.Stat(filepath.Join(dir, "synchronized")); {
	case err == nil:
		f.Seen = "systemd-timesyncd has set the clock, last on " + info.ModTime().Local().Format(time.DateTime)
	case os.IsNotExist(err):
		f.Level, f.Seen = Warn, "systemd-timesyncd runs and has reached no time server since the start of the machine"
		f.Todo = "see timedatectl timesync-status; let this server ask its time server over UDP port 123"
	default:
		f.Level, f.Seen, f.Todo = Warn, (&fs.PathError{Op: "look at", Path: dir, Err: err}).Error(), "see timedatectl timesync-status"
	}
	return []Finding{f}
}
