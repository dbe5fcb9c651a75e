package controlplane

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// machineTick is how often a node looks for what a person of its machine asks.
const machineTick = 500 * time.Millisecond

// attend serves the commands of this machine through files in the data directory: it tells
// where the other nodes are, and answers a rescue.
func (c *ControlPlane) attend(ctx context.Context) error {
	changed, cancel := c.store.Watch("nodes")
	defer cancel()
	tick := time.NewTicker(machineTick)
	defer tick.Stop()
	c.noteOthers()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			c.noteOthers()
		case <-tick.C:
			c.answerRescue(ctx)
		}
	}
}

// noteOthers leaves the addresses at which the other nodes serve people. It is a help for
// when this node does not run; it never keeps the node from its work.
func (c *ControlPlane) noteOthers() {
	var own model.Node
	nodes := c.store.Nodes()
	for _, n := range nodes {
		if n.ID == c.id.Node {
			own = n
		}
	}
	var text strings.Builder
	for _, n := range nodes {
		if n.ID != own.ID && n.API != "" && reachableFrom(own, n) {
			text.WriteString(n.API + "\n")
		}
	}
	file := FilesIn(c.config.Data).Others
	old, err := os.ReadFile(file)
	if err == nil && string(old) == text.String() || errors.Is(err, fs.ErrNotExist) && text.Len() == 0 {
		return
	}
	if err := atomicfile.Write(file, []byte(text.String()), 0o644); err != nil {
		c.log.Warn("the addresses of the other nodes cannot be noted", "file", file, "error", err)
	}
}

// reachableFrom passes over a node that serves people on its own machine only, unless that
// is this one.
func reachableFrom(own, other model.Node) bool {
	at, err := url.Parse(other.API)
	if err != nil {
		return false
	}
	ownHost, _, _ := net.SplitHostPort(own.Peer) // without one there are no others
	host, _, err := net.SplitHostPort(other.Peer)
	return !loopback(at.Host) || err == nil && host == ownHost
}
