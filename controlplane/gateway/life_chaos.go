//go:build chaos

package gateway

import (
	"os"
	"time"
)

// lifeOf lets fault tests see certificates renewed while orders flow.
func lifeOf(configured time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("CROSSDOCK_AGENT_LIFE")); err == nil && d > 0 {
		return d
	}
	return configured
}
