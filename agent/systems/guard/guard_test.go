package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

func TestJudge(t *testing.T) {
	for address, want := range map[string]Reach{
		"93.184.216.34": Public, "2606:2800:220:1::1": Public, "::ffff:93.184.216.34": Public, "64:ff9b::5db8:d822": Public,
		"127.0.0.1": Named, "127.9.9.9": Named, "::1": Named, "10.1.2.3": Named, "172.31.0.1": Named, "192.168.1.1": Named,
		"100.64.0.1": Named, "fd12::1": Named, "::ffff:10.0.0.1": Named, "64:ff9b::a00:1": Named, "2002:a00:1::1": Named,
		"0.0.0.0": Never, "0.1.2.3": Never, "::": Never, "::7f00:1": Never,
		"169.254.169.254": Never, "169.254.1.1": Never, "::ffff:169.254.169.254": Never, "64:ff9b::a9fe:a9fe": Never,
		"2002:a9fe:a9fe::": Never, "fe80::1": Never, "fe80::1%eth0": Never, "fd00:ec2::254": Never, "100.100.100.200": Never,
		"168.63.129.16": Never, "224.0.0.1": Never, "ff02::1": Never, "255.255.255.255": Never, "240.0.0.1": Never,
	} {
		if got, what := Judge(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %v (%s), want %v", address, got, what, want)
		}
	}
	if got, _ := Judge(netip.Addr{}); got != Never {
		t.Errorf("no address: got %v", got)
	}
}

// listen counts the connections that reach a loopback port.
func listen(t *testing.T) (port string, count *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	count = &atomic.Int64{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			conn.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, count
}

// names is a DNS server in memory: each question of a name gets the next of its answers.
type names struct {
	mu      sync.Mutex
	answers map[string][]string
	asked   int
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go n.serve(server)
		return client, nil
	}}
}

// serve answers DNS over a stream, where a message follows its length.
func (n *names) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := conn.Read(size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := conn.Read(query); err != nil {
			return
		}
		reply := n.answer(query)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (n *names) answer(query []byte) []byte {
	name, at := "", 12
	for query[at] != 0 {
		name += string(query[at+1:at+1+int(query[at])]) + "."
		at += 1 + int(query[at])
	}
	question := query[12 : at+5]
	v4 := query[at+2] == 1
	n.mu.Lock()
	defer n.mu.Unlock()
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
	if answers := n.answers[name]; v4 && len(answers) > 0 {
		ip := netip.MustParseAddr(answers[min(n.asked, len(answers)-1)]).As4()
		n.asked++
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		reply = append(reply, ip[:]...)
	}
	return reply
}

func TestDial(t *testing.T) {
	port, count := listen(t)
	for _, c := range []struct {
		what     string
		declared string
		private  []string
		dial     string
		answers  []string
		ok       bool
	}{
		{what: "loopback named", declared: "127.0.0.1:", private: []string{"127.0.0.1"}, ok: true},
		{what: "loopback named with port", declared: "127.0.0.1:", private: []string{"127.0.0.1:" + port}, ok: true},
		{what: "loopback not named", declared: "127.0.0.1:"},
		{what: "another port named", declared: "127.0.0.1:", private: []string{"127.0.0.1:1"}},
		{what: "the name is named, not the address", declared: "127.0.0.1:", private: []string{"localhost"}},
		{what: "name leads to loopback", declared: "erp.test:", answers: []string{"127.0.0.1"}},
		{what: "named name leads to loopback", declared: "erp.test:", private: []string{"ERP.test."}, answers: []string{"127.0.0.1"}, ok: true},
		{what: "named name leads to metadata", declared: "erp.test:", private: []string{"erp.test"}, answers: []string{"169.254.169.254"}},
		{what: "not declared", declared: "erp.test:", private: []string{"127.0.0.1"}, dial: "127.0.0.1:"},
		{what: "unspecified is loopback on many systems", declared: "0.0.0.0:", private: []string{"0.0.0.0"}},
		{what: "mapped", declared: "[::ffff:127.0.0.1]:"},
	} {
		t.Run(c.what, func(t *testing.T) {
			before := count.Load()
			dns := &names{answers: map[string][]string{"erp.test.": c.answers}}
			d := New(Config{Declared: []string{c.declared + port}, Private: c.private, Resolver: dns.resolver()})
			dial := c.dial
			if dial == "" {
				dial = c.declared
			}
			conn, err := d.DialContext(t.Context(), "tcp", dial+port)
			if err == nil {
				conn.Read(make([]byte, 1)) // until the other side has counted and closed
				conn.Close()
			}
			if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrRefused) {
				t.Errorf("got %v, want allowed %v", err, c.ok)
			}
			if got := count.Load() - before; got != 0 && !c.ok {
				t.Errorf("%d connections were made", got)
			}
		})
	}
}

// The DNS says something public when a check would look, and loopback when it is dialled.
func TestRebinding(t *testing.T) {
	port, count := listen(t)
	dns := &names{answers: map[string][]string{"erp.test.": {"93.184.216.34", "127.0.0.1"}}}
	resolver := dns.resolver()
	first, err := resolver.LookupNetIP(t.Context(), "ip4", "erp.test")
	if err != nil || first[0].String() != "93.184.216.34" {
		t.Fatalf("the first look gave %v %v", first, err)
	}
	d := New(Config{Declared: []string{"erp.test:" + port}, Resolver: resolver})
	if _, err := d.DialContext(t.Context(), "tcp", "erp.test:"+port); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
	if count.Load() != 0 {
		t.Error("a connection was made")
	}
}

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"http://erp.test/x": "erp.test:80", "https://erp.test": "erp.test:443", "https://[::1]:8443/": "[::1]:8443",
		"ftp://erp.test": "", "https:///x": "", "file:///etc/passwd": "", "gopher://erp.test:70": "",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Address(u); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q %v, want %q", text, got, err, want)
		}
	}
}
