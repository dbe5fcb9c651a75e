package systemtest

import (
	"fmt"
	"path/filepath"
	"testing"
)

// TestNumbersOverARestore restores the control plane from a backup that does not know what was
// leased since. Sites go on with what they hold, and what is leased then lies behind everything
// that any of them holds, also while one of them has not spoken.
func TestNumbersOverARestore(t *testing.T) {
	c := startCluster(t, 1, clusterOptions{})
	n, p, out := c.nodes[0], c.plane, newPrinted(t)
	p.approve(withRange("eu", "hq"))
	eu, hq := numbersSite(t, p, "eu"), numbersSite(t, p, "hq")
	eu.start()
	hq.start()
	eu.awaitNumbers(20)
	hq.awaitNumbers(20)
	backup := filepath.Join(t.TempDir(), "crossdock.backup")
	if _, err := n.crossdock("", "cluster", "backup", "--out", backup); err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // of the life that is lost
		out.print(eu, fmt.Sprint("lost life ", i), 9)
		eu.awaitNumbers(10)
	}
	out.print(hq, "lost life", 15)
	hq.awaitNumbers(10)
	hq.stop()
	n.stop()
	n.wipe()
	for i := 0; eu.numbersLeft() > 5; i++ {
		out.print(eu, fmt.Sprint("dark ", i), 1)
	}
	if _, err := n.crossdock("", "cluster", "restore", "--config", n.config, "--yes", backup); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.awaitReady()
	p.awaitException("@control", "ranges-skipped")
	eu.awaitNumbers(10) // it waits for nobody
	hq.start()
	out.print(hq, "spoken", 2)
	hq.awaitNumbers(10)
	for i := range 6 {
		out.print(eu, fmt.Sprint("after ", i), 9)
		out.print(hq, fmt.Sprint("after ", i), 9)
		eu.awaitNumbers(10)
		hq.awaitNumbers(10)
	}
}

func (s *site) numbersLeft() uint64 {
	s.t.Helper()
	st, err := s.status()
	if err != nil || len(st.Numbers) != 1 {
		s.t.Fatalf("%+v, %v", st.Numbers, err)
	}
	return st.Numbers[0].Left
}
