//go:build chaos

package systemtest

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestWithoutHeartbeatGuard is the control of all that is said about equal states: with the
// guard against heartbeats that pass the main loop taken away, pauses of the leader must
// make the nodes' states differ. It fails when they never do.
func TestWithoutHeartbeatGuard(t *testing.T) {
	const (
		pauses  = 20 // of a round
		timeout = 300 * time.Millisecond
	)
	report := &chaosReport{Control: "heartbeat", Seed: chaosSeed(t), Faults: map[string]int{}}
	began := time.Now()
	defer func() { report.save(t, began) }()
	r := mathrand.New(mathrand.NewPCG(report.Seed, 3))
	for round := range count(t, "RUNS", 40) {
		report.Rounds++
		c := startCluster(t, 3, clusterOptions{sabotage: "heartbeat", env: []string{"CROSSDOCK_TIMEOUT=" + timeout.String()}})
		stop := c.press(24)
		for range pauses {
			n := c.leader()
			n.run.signal(syscall.SIGSTOP)
			time.Sleep(3*timeout + time.Duration(r.Int64N(int64(timeout))))
			n.run.signal(syscall.SIGCONT)
			report.Faults["pause-leader"]++
			time.Sleep(5*timeout/3 + time.Duration(r.Int64N(int64(timeout))))
			if c.diverged() != "" {
				break
			}
		}
		stop()
		why := c.compare()
		c.end()
		t.Logf("seed %d round %d: %s", report.Seed, round+1, why)
		if why != "" {
			report.Diverged = round + 1
			return
		}
		c.nodes = nil // ended; nothing is left to do at the end of the test
	}
	t.Errorf("the states never differed in %d rounds: either the guard is not needed or this test cannot see it", report.Rounds)
}

// press has writers change the state without end, at whichever node leads. When it is
// paused their requests wait in its sockets, and come all at once when it goes on.
func (c *cluster) press(writers int) (stop func()) {
	var all sync.WaitGroup
	done := make(chan struct{})
	hasty := *c.plane
	client := *c.plane.client
	client.Timeout = 2 * time.Second
	hasty.client = &client
	for w := range writers {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				for _, d := range c.plane.nodes() {
					body := fmt.Appendf(nil, `{"name":"w%d-%d-%s","roles":["viewer"]}`, w, i, d.API[len(d.API)-4:])
					_, _, _ = hasty.ask(d.API, "POST", "/principals", rand.Text(), body) // whatever comes of it
				}
			}
		})
	}
	return func() {
		close(done)
		all.Wait()
	}
}

// diverged says which node has stopped because its state is not that of the majority.
func (c *cluster) diverged() string {
	for _, n := range c.nodes {
		if text, err := os.ReadFile(filepath.Join(n.data, "diverged")); err == nil {
			return fmt.Sprintf("%s has stopped: %s", n.name, text)
		}
	}
	return ""
}

// compare waits until the nodes have come to rest and says how their states differ.
func (c *cluster) compare() (why string) {
	until(c.t, "the nodes have come to rest", func() string {
		if why = c.diverged(); why != "" {
			return ""
		}
		v := c.plane.view()
		if why = v.Verdict.Halted; why != "" {
			return ""
		}
		for _, n := range v.Nodes {
			if !n.Ready || n.Hash == "" || n.Applied != v.Nodes[0].Applied {
				return fmt.Sprintf("%+v", v.Nodes)
			}
			if n.Hash != v.Nodes[0].Hash {
				why = fmt.Sprintf("%+v", v.Nodes)
			}
		}
		return ""
	})
	return why
}
