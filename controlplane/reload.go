package controlplane

import (
	"fmt"

	"github.com/crossdock/crossdock/protocol/settings"
)

// Reload looks at a configuration that was read again and says what of it a running node
// takes over, and what waits for a restart. With why it could not be read, or where it is not
// valid, the one before stays in force as a whole; the log and the metrics say so. It is
// the level of the log that it takes over: its doors, and what other nodes know of it, stay for
// one run.
func (c *ControlPlane) Reload(next Config, why error) error {
	if why == nil {
		why = next.Validate()
	}
	if why != nil {
		c.refused.Set(1)
		c.log.Error("the configuration is refused, the one before stays in force", "error", why)
		return fmt.Errorf("the configuration is refused, the one before stays in force: %w", why)
	}
	var changed, restart []string // since the start
	for _, k := range settings.Changed(&c.config, &next) {
		if k.Reload {
			changed = append(changed, k.Name)
		} else {
			restart = append(restart, k.Name)
		}
	}
	next.Log.form().SetLevel(c.config.Level)
	c.refused.Set(0)
	c.log.Info("the configuration was read again", "changed", changed, "restart", restart)
	return nil
}
