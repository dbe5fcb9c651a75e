package world

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
)

// Wire counts the bytes that pass loopback to and from groups of ports, headers included,
// by counters of the kernel's packet filter. Segments that the sender's kernel would cut for a
// network card count with one header each.
type Wire struct{ table string }

var tables atomic.Int64

// OpenWire begins to count. Its error says why it cannot be done here.
func OpenWire(groups map[string][]string) (*Wire, error) {
	table, err := nftTable()
	if err != nil {
		return nil, err
	}
	w := &Wire{table}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", w.table)
	for name := range groups {
		fmt.Fprintf(&b, "counter %s { }\n", name)
	}
	b.WriteString("chain in { type filter hook input priority 0; policy accept;\n")
	for name, addresses := range groups {
		set := portsOf(addresses)
		fmt.Fprintf(&b, "iifname lo meta l4proto { tcp, udp } th dport { %s } counter name %s\n", set, name)
		fmt.Fprintf(&b, "iifname lo meta l4proto { tcp, udp } th sport { %s } counter name %s\n", set, name)
	}
	b.WriteString("}\n}\n")
	_, err = nft(b.String(), "-f", "-")
	return w, err
}

// nftTable is a name for a table that nobody else has. Its error says why there can be none.
func nftTable() (string, error) {
	if _, err := exec.LookPath("nft"); err != nil {
		return "", errors.New("there is no nft; install nftables and run as root")
	}
	if os.Geteuid() != 0 {
		return "", errors.New("nftables need root")
	}
	return fmt.Sprintf("crossdock_bench_%d_%d", os.Getpid(), tables.Add(1)), nil
}

// Bytes reads the counters.
func (w *Wire) Bytes() (map[string]int64, error) {
	text, err := nft("", "-j", "list", "counters", "table", "inet", w.table)
	if err != nil {
		return nil, err
	}
	return countersOf(text)
}

func countersOf(text []byte) (map[string]int64, error) {
	var list struct {
		NFTables []struct {
			Counter *struct {
				Name  string
				Bytes int64
			}
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("the answer of nft: %w", err)
	}
	out := map[string]int64{}
	for _, item := range list.NFTables {
		if item.Counter != nil {
			out[item.Counter.Name] = item.Counter.Bytes
		}
	}
	return out, nil
}

// Close takes the counters away.
func (w *Wire) Close() error {
	_, err := nft("", "delete", "table", "inet", w.table)
	return err
}

func nft(in string, args ...string) ([]byte, error) {
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(in)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out, nil
}
