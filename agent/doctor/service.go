package doctor

import "fmt"

// unit is how the machine's service manager keeps the agent.
type unit struct {
	present  bool
	enabled  bool // starts with the machine
	restarts bool // when it ends by itself
	how      string
}

// service judges a unit. running says that the agent runs, by whatever.
func (u unit) service(name string, running bool) Finding {
	f := Finding{ID: "service", Level: OK, Seen: fmt.Sprintf("%s starts with the machine, and again when it ends", name)}
	switch {
	case !u.present && running:
		f.Level, f.Seen = Warn, "the agent runs, and is no service: nothing starts it with the machine"
		f.Todo = "crossdock-agent service install"
	case !u.present:
		f.Level, f.Seen, f.Todo = Warn, "there is no service "+name, "crossdock-agent service install, after enrolment"
	case !u.enabled:
		f.Level, f.Seen, f.Todo = Fail, name+" does not start with the machine ("+u.how+")", "crossdock-agent service install, or enable it: systemctl enable "+name
	case !u.restarts:
		f.Level, f.Seen, f.Todo = Warn, name+" is not started again when it ends ("+u.how+")", "take Restart=always back into the unit"
	}
	return f
}
