package systemtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// walls stand between nodes that are processes of one machine: packet filters that drop
// what goes from one to another, each direction for itself. All nodes have one address, so
// the filter knows who opened a connection by the group that its process runs as.
type walls struct {
	t     *testing.T
	table string
}

const (
	wallGroup = 23_100 // of the first node
	mostNodes = 7
)

// tryWalls says what this machine does not have.
func tryWalls(t *testing.T) (*walls, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("a wall between nodes needs root")
	}
	w := &walls{t: t, table: fmt.Sprint("crossdock_", os.Getpid())}
	if err := removeStaleWalls(); err != nil {
		return nil, fmt.Errorf("a wall between nodes needs nft: %w", err)
	}
	var marks []string
	for i := range mostNodes {
		marks = append(marks, fmt.Sprintf("%[1]d : %[1]d", wallGroup+i))
	}
	err := nft(fmt.Sprintf(`table inet %[1]s {
		chain who { type filter hook output priority -1; ct state new ct mark set meta skgid map { %[2]s }; }
		chain stand { type filter hook output priority 0; }
	}`, w.table, strings.Join(marks, ", ")))
	if err != nil {
		return nil, fmt.Errorf("a wall between nodes needs nft and connection tracking: %w", err)
	}
	t.Cleanup(func() {
		if err := nft("delete table inet " + w.table); err != nil {
			t.Error(err)
		}
	})
	return w, nil
}

// removeStaleWalls takes down those of tests that were killed.
func removeStaleWalls() error {
	text, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	for line := range strings.Lines(string(text)) {
		pid, ours := strings.CutPrefix(strings.TrimSpace(line), "table inet crossdock_")
		if _, err := os.Stat("/proc/" + pid); ours && err != nil {
			if err := nft("delete table inet crossdock_" + pid); err != nil {
				return err
			}
		}
	}
	return nil
}

func nft(rules string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(text)))
	}
	return nil
}

// credential is what the process of a node must run as.
func (w *walls) credential(i int) *syscall.Credential {
	return &syscall.Credential{Uid: 0, Gid: wallGroup + uint32(i)}
}

// drop has percent of what goes from one node to another vanish.
func (w *walls) drop(from, to *node, percent int) {
	w.t.Helper()
	chance := ""
	if percent < 100 {
		chance = fmt.Sprintf("numgen random mod 100 < %d", percent)
	}
	rule := func(opener, listener *node, direction string) string {
		_, port, err := net.SplitHostPort(listener.peer)
		if err != nil {
			w.t.Fatal(err)
		}
		end := map[string]string{"original": "dport", "reply": "sport"}[direction]
		return fmt.Sprintf("add rule inet %s stand ct mark %d ct direction %s tcp %s %s %s drop\n",
			w.table, opener.as.Gid, direction, end, port, chance)
	}
	if err := nft(rule(from, to, "original") + rule(to, from, "reply")); err != nil {
		w.t.Fatal(err)
	}
}

// between cuts two nodes off from each other, both ways.
func (w *walls) between(a, b *node) {
	w.t.Helper()
	w.drop(a, b, 100)
	w.drop(b, a, 100)
}

// fall takes all walls down.
func (w *walls) fall() {
	w.t.Helper()
	if err := nft("flush chain inet " + w.table + " stand"); err != nil {
		w.t.Fatal(err)
	}
}
