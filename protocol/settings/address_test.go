package settings_test

import (
	"testing"

	"github.com/crossdock/crossdock/protocol/settings"
)

func TestHostPort(t *testing.T) {
	for address, good := range map[string]bool{
		"127.0.0.1:7080": true, ":7443": true, "hub.example:65535": true, "[::1]:0": true, "hub.example:https": true,
		"hub.example": false, "hub.example:65536": false, "127.0.0.1:99999": false, "127.0.0.1:-1": false, "127.0.0.1:70x0": false, "::1:7080": false,
	} {
		if _, _, err := settings.HostPort(address); (err == nil) != good {
			t.Errorf("%s: %v, want good %t", address, err, good)
		}
	}
}
