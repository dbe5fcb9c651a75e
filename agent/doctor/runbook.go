package doctor

import "strings"

// runbooks gives each finding the runbook to read on in, by its id, or by the beginning of
// one that ends with the name of a thing.
var runbooks = map[string]string{
	"config": "configuration",

	"agent": "agent-down", "intake-port": "agent-down", "ops-port": "agent-down", "service": "agent-down",
	"data-permissions": "permissions", "data-owner": "permissions", "secrets": "permissions",
	"secret-": "permissions", "user": "permissions", "fenced": "agent-replaced",

	"disk-space": "disk-full", "disk-sync": "disk-full", "disk-room": "disk-full", "disk-watched": "disk-full", "store": "store-damaged",
	"queue-level": "queue-grows", "queue-age": "queue-grows", "dead-letters": "queue-grows", "documents": "queue-grows",

	"link-quic": "udp-blocked", "udp-buffer": "udp-blocked",
	"link-tcp": "site-offline", "addresses": "site-offline", "dns-": "site-offline", "policy": "site-offline", "version": "site-offline",
	"proxy": "proxy", "tls-inspection": "tls-inspection", "certificate": "certificate-ends",
	"clock": "clock", "clock-ntp": "clock", "time-zone": "clock",

	"system-": "system-unreachable", "numbers-": "carrier-refuses", "plugin-": "plugin-down",
}

// Runbook is the topic that a finding leads to, empty for an id that nobody knows.
func Runbook(id string) string {
	if topic := runbooks[id]; topic != "" {
		return topic
	}
	for prefix, topic := range runbooks {
		if strings.HasSuffix(prefix, "-") && strings.HasPrefix(id, prefix) {
			return topic
		}
	}
	return ""
}
