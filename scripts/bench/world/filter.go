package world

import (
	"fmt"
	"net"
)

// lineHost is a second address of loopback. A site with a line connects to it, all others to
// 127.0.0.1: by that the kernel tells who is cut off, as both reach the same port.
const lineHost = "127.0.0.2"

// LineTo is the address by which a site with a filter reaches what listens Anywhere.
func LineTo(address string) string { return net.JoinHostPort(lineHost, portOf(address)) }

// Anywhere is where a node listens that is to be reached by both.
func Anywhere(address string) string { return net.JoinHostPort("0.0.0.0", portOf(address)) }

// Filter is lines on which nothing stands: a site talks to the nodes by the kernel alone, and
// a table of the kernel's packet filter cuts it off.
//
// Datagrams of a line that is cut are lost. Streams are reset, in place of being lost as well:
// the pauses of TCP between its attempts would double with every second that a cut lasts, and
// who uses it would wait as long again after the line's return.
type Filter struct {
	Addresses []string // one for each target
	table     string
	ports     string
}

// CanFilter says why there can be no filter here.
func CanFilter() error {
	f, err := OpenFilter([]string{"127.0.0.1:9"}) // nobody listens there, and it is gone at once
	if err != nil {
		return err
	}
	err = f.Cut()
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// OpenFilter makes a table that lets everything pass, except what comes from another machine:
// the targets listen anywhere.
func OpenFilter(targets []string) (*Filter, error) {
	table, err := nftTable()
	if err != nil {
		return nil, err
	}
	f := &Filter{table: table, ports: portsOf(targets)}
	for _, target := range targets {
		f.Addresses = append(f.Addresses, LineTo(target))
	}
	// All is dropped where it comes in: a sender is told of what is dropped where it goes out.
	_, err = nft(fmt.Sprintf(`table inet %s {
chain outside { type filter hook input priority 0; policy accept;
iifname != lo meta l4proto { tcp, udp } th dport { %s } drop
}
chain line { type filter hook input priority 0; policy accept;
}
}
`, f.table, f.ports), "-f", "-")
	return f, err
}

// Cut lets nothing pass any more.
func (f *Filter) Cut() error {
	text := fmt.Sprintf("add rule inet %s line tcp flags & rst == rst accept\n", f.table) // which carries nothing
	for _, way := range []string{"ip daddr %s %s dport { %s } %s", "ip saddr %s %s sport { %s } %s"} {
		for protocol, verdict := range map[string]string{"tcp": "reject with tcp reset", "udp": "drop"} {
			text += fmt.Sprintf("add rule inet %s line iifname lo "+way+"\n", f.table, lineHost, protocol, f.ports, verdict)
		}
	}
	_, err := nft(text, "-f", "-")
	return err
}

// Restore lets everything pass again.
func (f *Filter) Restore() error {
	_, err := nft("", "flush", "chain", "inet", f.table, "line")
	return err
}

// Close takes the table away.
func (f *Filter) Close() error {
	_, err := nft("", "delete", "table", "inet", f.table)
	return err
}
