package guard

import "net/netip"

// Reach says who may be called at an address.
type Reach int

// The three answers about an address.
const (
	Public Reach = iota // anybody's
	Named               // loopback and private: only when the System document names the host
	Never               // refused whatever a document says
)

type block struct {
	prefix netip.Prefix
	reach  Reach
	what   string
}

// blocks is in order of precedence: the first prefix that holds the address decides.
var blocks = []block{
	{netip.MustParsePrefix("169.254.0.0/16"), Never, "link-local or metadata"},
	{netip.MustParsePrefix("fe80::/10"), Never, "link-local"},
	{netip.MustParsePrefix("fd00:ec2::/32"), Never, "metadata"},
	{netip.MustParsePrefix("fd20:ce::254/128"), Never, "metadata"},
	{netip.MustParsePrefix("100.100.100.200/32"), Never, "metadata"},
	{netip.MustParsePrefix("168.63.129.16/32"), Never, "metadata"},
	{netip.MustParsePrefix("192.0.0.192/32"), Never, "metadata"},
	{netip.MustParsePrefix("0.0.0.0/8"), Never, "unspecified"},
	{netip.MustParsePrefix("224.0.0.0/4"), Never, "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), Never, "reserved or broadcast"},
	{netip.MustParsePrefix("ff00::/8"), Never, "multicast"},
	{netip.MustParsePrefix("127.0.0.0/8"), Named, "loopback"},
	{netip.MustParsePrefix("::1/128"), Named, "loopback"},
	{netip.MustParsePrefix("::/96"), Never, "unspecified"},
	{netip.MustParsePrefix("10.0.0.0/8"), Named, "private"},
	{netip.MustParsePrefix("172.16.0.0/12"), Named, "private"},
	{netip.MustParsePrefix("192.168.0.0/16"), Named, "private"},
	{netip.MustParsePrefix("100.64.0.0/10"), Named, "private (carrier NAT)"},
	{netip.MustParsePrefix("192.0.0.0/24"), Named, "private (protocol)"},
	{netip.MustParsePrefix("198.18.0.0/15"), Named, "private (benchmark)"},
	{netip.MustParsePrefix("fc00::/7"), Named, "private"},
	{netip.MustParsePrefix("fec0::/10"), Named, "private"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), Never, "local translation"},
	{netip.MustParsePrefix("2001::/32"), Never, "tunnel"},
}

var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
	sixTo = netip.MustParsePrefix("2002::/16")
)

// Judge says who may be called at an address, and what kind of address it is. An IPv4
// address inside an IPv6 one is judged as itself: a translator on the way would unwrap it.
func Judge(ip netip.Addr) (Reach, string) {
	if !ip.IsValid() {
		return Never, "broken"
	}
	ip = ip.WithZone("").Unmap()
	if ip.Is6() {
		raw := ip.As16()
		switch {
		case nat64.Contains(ip):
			ip = netip.AddrFrom4([4]byte(raw[12:16]))
		case sixTo.Contains(ip):
			ip = netip.AddrFrom4([4]byte(raw[2:6]))
		}
	}
	for _, b := range blocks {
		if b.prefix.Contains(ip) {
			return b.reach, b.what
		}
	}
	return Public, "public"
}
