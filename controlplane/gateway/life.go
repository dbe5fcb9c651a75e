//go:build !chaos

package gateway

import "time"

// lifeOf an agent's certificate is the one that was configured.
func lifeOf(configured time.Duration) time.Duration { return configured }
