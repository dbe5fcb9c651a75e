package service

import (
	_ "embed"
	"strings"
)

// Where things are on a machine with systemd. The first two are the packages'.
const (
	packagedProgram = "/usr/bin/crossdock-agent"
	packagedUnit    = "/usr/lib/systemd/system/" + unitName
	unitName        = Name + ".service"
	ownProgram      = "/usr/local/bin/crossdock-agent"
	ownUnit         = "/etc/systemd/system/" + unitName
	wantedUnit      = "/etc/systemd/system/multi-user.target.wants/" + unitName // as "systemctl enable" makes it
	usersFile       = "/etc/sysusers.d/crossdock-agent.conf"
	buffersFile     = "/etc/sysctl.d/50-crossdock.conf"
	recordPath      = "/etc/crossdock-agent/installed.json"
	systemdRuns     = "/run/systemd/system" // there while systemd is the machine's first process
	dataPath        = "/var/lib/crossdock-agent"
)

// packaged is the unit as the packages have it. It is here a second time because a program
// cannot hold a file from outside its own folder; a test holds the two to each other.
//
//go:embed crossdock-agent.service
var packaged string

// unit is the same for a program that no package has brought.
func unit() string {
	return strings.ReplaceAll(packaged, packagedProgram, ownProgram)
}

// buffers is what QUIC wants of the kernel.
const buffers = `# QUIC wants larger UDP buffers than the kernel gives by itself.
net.core.rmem_max = 7500000
net.core.wmem_max = 7500000
`

// users is for images: the user is made when the machine starts for the first time.
const users = `u crossdock-agent - "Crossdock agent" /var/lib/crossdock-agent /usr/sbin/nologin
`
