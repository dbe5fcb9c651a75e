package doctor

import (
	"fmt"
	"strings"
	"time"
)

// Configuration tells of a file that the running agent does not follow: one that a reload
// has refused, or keys in it that wait for a restart.
func Configuration(refused string, at time.Time, restart []string) Finding {
	f := Finding{ID: "config", Level: Warn}
	if refused != "" {
		f.Seen = fmt.Sprintf("the configuration of %s is refused, and the one before is in force: %s", at.Local().Format("2006-01-02 15:04"), refused)
		f.Todo = "see crossdock-agent config check, put the file right, and give crossdock-agent reload"
		return f
	}
	f.Seen = "changed since the agent was started, and not in force yet: " + strings.Join(restart, ", ")
	f.Todo = "restart the agent when it suits"
	return f
}
