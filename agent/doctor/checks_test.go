package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// condition is a check under a real condition, and the level that it must reach.
type condition struct {
	name  string
	found func(t *testing.T) []Finding
	id    string
	want  Level
	says  []string
}

func one(f Finding) []Finding { return []Finding{f} }

func run(t *testing.T, conditions []condition) {
	for _, c := range conditions {
		t.Run(c.id+" "+c.name, func(t *testing.T) {
			findings := c.found(t)
			if c.want == "" {
				if len(findings) > 0 {
					t.Errorf("found %+v, want nothing", findings)
				}
				return
			}
			told := false
			for _, f := range findings {
				check(t, f, f.Level)
				if Runbook(f.ID) == "" {
					t.Errorf("%s leads to no runbook", f.ID)
				}
				if f.ID != c.id {
					continue
				}
				told = true
				if f.Level != c.want {
					t.Errorf("level %s, want %s: %+v", f.Level, c.want, f)
				}
				for _, word := range c.says {
					if !strings.Contains(f.Seen+"\n"+f.Todo, word) {
						t.Errorf("%q is missing in %+v", word, f)
					}
				}
			}
			if !told {
				t.Errorf("%s is not in %+v", c.id, findings)
			}
		})
	}
}

func TestNames(t *testing.T) {
	a := &dnsmessage.AResource{A: [4]byte{10, 0, 0, 7}}
	look := func(records map[dnsmessage.Type]dnsmessage.ResourceBody, codes map[dnsmessage.Type]dnsmessage.RCode, proxied bool) func(t *testing.T) []Finding {
		return func(t *testing.T) []Finding {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			return one(Name(ctx, nameServer(t, records, codes), "hub.example", proxied))
		}
	}
	v4 := map[dnsmessage.Type]dnsmessage.ResourceBody{dnsmessage.TypeA: a}
	none := map[dnsmessage.Type]dnsmessage.RCode{dnsmessage.TypeA: dnsmessage.RCodeNameError, dnsmessage.TypeAAAA: dnsmessage.RCodeNameError}
	run(t, []condition{
		{"one family", look(v4, nil, false), "dns-hub.example", OK, []string{"IPv4: 10.0.0.7", "IPv6: none"}},
		{"both", look(map[dnsmessage.Type]dnsmessage.ResourceBody{dnsmessage.TypeA: a, dnsmessage.TypeAAAA: &dnsmessage.AAAAResource{AAAA: [16]byte{0xfd, 15: 1}}}, nil, false),
			"dns-hub.example", OK, []string{"IPv6: fd00::1"}},
		{"one family is not answered", look(v4, map[dnsmessage.Type]dnsmessage.RCode{dnsmessage.TypeAAAA: dnsmessage.RCodeServerFailure}, false), "dns-hub.example", Warn, []string{"DNS server of this site"}},
		{"unknown", look(nil, none, false), "dns-hub.example", Fail, []string{"controlplane.addresses"}},
		{"unknown behind a proxy", look(nil, none, true), "dns-hub.example", Warn, []string{"proxy looks it up"}},
		{"an address", func(t *testing.T) []Finding { return one(Name(t.Context(), nil, "127.0.0.1", false)) }, "dns-127.0.0.1", OK, nil},
	})
}

func TestProxyAndInspection(t *testing.T) {
	ours, theirs := newAuthority(t, "Crossdock CA"), newAuthority(t, "Example Corp Inspection CA")
	hub := secured(t, ours.issue(t, "node-1", time.Now().Add(time.Hour)))
	through := func(head string, then func(net.Conn), user *url.Userinfo) func(t *testing.T) []Finding {
		return func(t *testing.T) []Finding {
			proxy := proxyThat(t, func(*http.Request) (string, func(net.Conn)) { return head, then })
			f, conn := Proxy(t.Context(), Through{&url.URL{Scheme: "http", Host: proxy, User: user}, "controlplane.proxy"}, hub)
			if conn == nil {
				return one(f)
			}
			return append(one(f), Inspection(t.Context(), conn, hub, ours.pool(), false)...)
		}
	}
	const open, wants = "HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n"
	inspecting := func(c net.Conn) { shake(c, theirs.issue(t, "hub", time.Now().Add(time.Hour))) }
	direct := func(t *testing.T, at string, quic bool) []Finding {
		conn, err := Direct(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return Inspection(t.Context(), conn, at, ours.pool(), quic)
	}
	expired := secured(t, ours.issue(t, "node-1", time.Now().Add(-time.Minute)))
	foreign := secured(t, theirs.issue(t, "hub", time.Now().Add(time.Hour)))
	mute := listen(t, func(c net.Conn) {})
	run(t, []condition{
		{"leads there", through(open, tunnel(hub), nil), "proxy", OK, []string{"leads to " + hub}},
		{"and nobody looks in", through(open, tunnel(hub), nil), "tls-inspection", OK, []string{"nobody looks"}},
		{"407 with Basic", through(wants+"Proxy-Authenticate: Basic realm=\"x\"\r\n\r\n", nil, nil), "proxy", Fail, []string{"407", "Basic", "set user and password", "controlplane.proxyPassword"}},
		{"407 with a wrong password", through(wants+"Proxy-Authenticate: Basic realm=\"x\"\r\n\r\n", nil, url.UserPassword("bob", "hush")), "proxy", Fail, []string{"not the right ones", "bob:xxxxx@"}},
		{"407 with NTLM", through(wants+"Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n", nil, nil), "proxy", Fail, []string{"Negotiate, NTLM", "not supported"}},
		{"407 with Digest", through(wants+"Proxy-Authenticate: Digest realm=\"x\"\r\n\r\n", nil, nil), "proxy", Fail, []string{"only Basic"}},
		{"403", through("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", nil, nil), "proxy", Fail, []string{"403", "allow CONNECT"}},
		{"is none", through("220 mail.example ESMTP\r\n", nil, nil), "proxy", Fail, []string{"is it an HTTP proxy?"}},
		{"nobody is there", func(t *testing.T) []Finding {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			f, conn := Proxy(t.Context(), Through{&url.URL{Scheme: "http", Host: l.Addr().String()}, "HTTPS_PROXY"}, hub)
			if conn != nil {
				t.Error("there is a way")
			}
			return one(f)
		}, "proxy", Fail, []string{"HTTPS_PROXY"}},
		{"none is set", func(*testing.T) []Finding { return one(NoProxy()) }, "proxy", OK, nil},
		{"a proxy looks in", through(open, inspecting, nil), "tls-inspection", Fail, []string{`"Example Corp Inspection CA"`, "exempt " + hub}},
		{"a firewall looks in", func(t *testing.T) []Finding { return direct(t, foreign, false) }, "tls-inspection", Fail, []string{"Inspection CA"}},
		{"and QUIC is open", func(t *testing.T) []Finding { return direct(t, foreign, true) }, "tls-inspection", Warn, []string{"QUIC alone"}},
		{"an expired one of ours is ours", func(t *testing.T) []Finding { return direct(t, expired, false) }, "tls-inspection", OK, nil},
		{"no handshake, nothing to say", func(t *testing.T) []Finding { return direct(t, mute, false) }, "", "", nil},
	})
}

// A way that a proxy opened carries what follows from its first byte.
func TestConnectReadsNoFurther(t *testing.T) {
	proxy := proxyThat(t, func(r *http.Request) (string, func(net.Conn)) {
		if r.Method != http.MethodConnect || r.Host != "hub.example:7443" || r.Header.Get("Proxy-Authorization") != "Basic Ym9iOmh1c2g=" {
			return "HTTP/1.1 400 Bad Request\r\n\r\n", nil
		}
		return "HTTP/1.1 200 OK\r\n\r\nfirst", nil
	})
	f, conn := Proxy(t.Context(), Through{&url.URL{Scheme: "http", Host: proxy, User: url.UserPassword("bob", "hush")}, "controlplane.proxy"}, "hub.example:7443")
	if conn == nil {
		t.Fatalf("%+v", f)
	}
	defer conn.Close()
	got := make([]byte, 5)
	if _, err := conn.Read(got); err != nil || string(got) != "first" {
		t.Errorf("%q, %v", got, err)
	}
	if strings.Contains(f.Seen, "hush") {
		t.Errorf("the password is told: %s", f.Seen)
	}
}

func TestClockAndCertificate(t *testing.T) {
	ours, theirs := newAuthority(t, "Crossdock CA"), newAuthority(t, "Another CA")
	certificate := func(left time.Duration, by *authority) func(t *testing.T) []Finding {
		return func(t *testing.T) []Finding {
			leaf := by.issue(t, "eu", time.Now().Add(left)).Leaf
			return one(Certificate([]*x509.Certificate{leaf}, ours.pool(), time.Now()))
		}
	}
	ask := func(off time.Duration) func(t *testing.T) []Finding {
		return func(t *testing.T) []Finding { return NTP(timeServer(t, off), "") }
	}
	synchronised := func(files ...string) func(t *testing.T) []Finding {
		return func(t *testing.T) []Finding {
			run := t.TempDir()
			for _, f := range files {
				path := filepath.Join(run, f)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			return NTP("", run)
		}
	}
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	run(t, []condition{
		{"good", certificate(36*time.Hour, ours), "certificate", OK, []string{"1.5 days"}},
		{"not renewed", certificate(time.Hour, ours), "certificate", Warn, nil},
		{"expired", certificate(-time.Second, ours), "certificate", Fail, []string{"expired", "is this clock right?"}},
		{"not valid yet", func(t *testing.T) []Finding {
			leaf := ours.issue(t, "eu", time.Now().Add(time.Hour)).Leaf
			return one(Certificate([]*x509.Certificate{leaf}, ours.pool(), leaf.NotBefore.Add(-time.Hour)))
		}, "certificate", Fail, []string{"valid from", "this clock says", "set this clock"}},
		{"of another authority", certificate(36*time.Hour, theirs), "certificate", Fail, []string{"does not lead"}},
		{"right", ask(0), "clock-ntp", OK, nil},
		{"two seconds off", ask(2 * time.Second), "clock-ntp", Warn, []string{"synchronisation"}},
		{"a minute off", ask(-time.Minute), "clock-ntp", Fail, []string{"set this clock"}},
		{"no answer", func(*testing.T) []Finding { return NTP(silent.LocalAddr().String(), "") }, "clock-ntp", Warn, []string{"no answer within", "port 123"}},
		{"timesyncd has set it", synchronised("systemd/timesync/synchronized"), "clock-ntp", OK, nil},
		{"timesyncd has not", synchronised("systemd/timesync/clock"), "clock-ntp", Warn, []string{"no time server"}},
		{"nobody keeps it", synchronised(), "", "", nil},
		{"zone", func(*testing.T) []Finding { return one(TimeZone("Europe/Amsterdam")) }, "time-zone", OK, nil},
		{"zone that nobody knows", func(*testing.T) []Finding { return one(TimeZone("Mars/Phobos")) }, "time-zone", Warn, []string{"Mars/Phobos", "UTC"}},
		{"protocol", func(*testing.T) []Finding { return Version("1.2", 2, []Path{{Err: errors.New("cut")}, {Protocol: 2}}) }, "version", OK, []string{"1.2", "protocol 2"}},
		{"older control plane", func(*testing.T) []Finding { return Version("1.2", 3, []Path{{Protocol: 2}}) }, "version", Warn, []string{"control plane goes first", "it goes first"}[1:]},
		{"not reached", func(*testing.T) []Finding { return Version("1.2", 3, []Path{{Err: errors.New("cut")}}) }, "", "", nil},
	})
}

func TestStoresAndQueues(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, bad := file("good"), file("bad")
	fault := func(path string) error {
		if filepath.Base(path) != "bad" {
			return nil
		}
		return errors.New("page 3: checksum")
	}
	changing := func(path string) error {
		later := time.Now().Add(time.Minute)
		return errors.Join(errors.New("torn"), os.Chtimes(path, later, later))
	}
	system := func(name string, oldest time.Duration, dead uint64) WaitingFor {
		return WaitingFor{System: name, Pending: 7, Oldest: oldest, DeadLetters: dead, Parked: 2, Why: "answered 503"}
	}
	many := Waiting{}
	for i := range 8 {
		many.Systems = append(many.Systems, system(fmt.Sprintf("s%d", i), time.Hour, 1))
	}
	run(t, []condition{
		{"whole", func(t *testing.T) []Finding { return one(Store(t.Context(), []string{good}, 2, fault)) }, "store", OK, []string{"1 of 3 files", "being written: 2"}},
		{"damaged", func(t *testing.T) []Finding { return one(Store(t.Context(), []string{good, bad}, 0, fault)) }, "store", Fail, []string{"bad: page 3", "queue verify"}},
		{"gone meanwhile", func(t *testing.T) []Finding {
			return one(Store(t.Context(), []string{filepath.Join(dir, "none")}, 0, func(p string) error { _, err := os.Stat(p); return err }))
		}, "store", OK, []string{"0 of 1"}},
		{"written meanwhile", func(t *testing.T) []Finding { return one(Store(t.Context(), []string{file("torn")}, 0, changing)) }, "store", OK, []string{"0 of 1"}},
		{"empty", func(*testing.T) []Finding { return one(QueueLevel(0.1, 1<<20)) }, "queue-level", OK, nil},
		{"high", func(*testing.T) []Finding { return one(QueueLevel(0.7, 1<<20)) }, "queue-level", Warn, nil},
		{"full", func(*testing.T) []Finding { return one(QueueLevel(0.9, 1<<20)) }, "queue-level", Fail, []string{"refused"}},
		{"young", func(*testing.T) []Finding {
			return one(QueueAge(Waiting{Outgoing: 3, CutOff: time.Minute, Systems: []WaitingFor{system("erp", time.Minute, 0)}}))
		}, "queue-age", OK, nil},
		{"old at a system", func(*testing.T) []Finding {
			return one(QueueAge(Waiting{Systems: []WaitingFor{system("erp", 3*time.Hour, 0)}}))
		}, "queue-age", Warn, []string{"7 for erp, the oldest for 3 hours (answered 503)"}},
		{"cut off", func(*testing.T) []Finding { return one(QueueAge(Waiting{Outgoing: 3, CutOff: 72 * time.Hour})) }, "queue-age", Warn, []string{"3 for the relay, cut off for 3 days"}},
		{"many", func(*testing.T) []Finding { return one(QueueAge(many)) }, "queue-age", Warn, []string{"and 3 more"}},
		{"no dead letters", func(*testing.T) []Finding { return one(DeadLetters(Waiting{})) }, "dead-letters", OK, nil},
		{"dead letters", func(*testing.T) []Finding {
			return one(DeadLetters(Waiting{Systems: []WaitingFor{system("erp", 0, 4)}}))
		}, "dead-letters", Warn, []string{"4 for erp, 2 parked"}},
		{"documents", func(*testing.T) []Finding { return one(Missing(2)) }, "documents", Warn, nil},
		{"numbers", func(*testing.T) []Finding { return one(FewNumbers("sscc", 4, 10, "")) }, "numbers-sscc", Warn, nil},
		{"no numbers", func(*testing.T) []Finding { return one(FewNumbers("sscc", 0, 10, "used up")) }, "numbers-sscc", Fail, []string{"used up"}},
		{"plugin waits", func(*testing.T) []Finding { return one(Plugin("zone", "waiting", "crashed")) }, "plugin-zone", Warn, nil},
		{"plugin given up", func(*testing.T) []Finding { return one(Plugin("zone", "deactivated", "crashed")) }, "plugin-zone", Fail, nil},
		{"held", func(*testing.T) []Finding { return one(Held("wms", "for the old one")) }, "system-wms", Warn, nil},
		{"fenced", func(*testing.T) []Finding { return one(Fenced("epoch 3")) }, "fenced", Fail, nil},
	})
}

// systemctl stands in for systemd's own, on the path alone.
func systemctl(t *testing.T, says string, code int) string {
	t.Helper()
	run, bin := t.TempDir(), t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nprintf '%s'\nexit %d\n", says, code)
	if err := errors.Join(os.MkdirAll(filepath.Join(run, "systemd", "system"), 0o700), os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o700)); err != nil { // #nosec G306
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return run
}

func TestReport(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.FixedZone("x", 3600))
	r := NewReport("1.2", at, []Finding{{ID: "clock", Level: Warn, Seen: "off", Todo: "set it"}, {ID: "system-erp", Level: OK, Seen: "there"}})
	if r.Version != ReportVersion || r.Worst != Warn || r.Summary != "0 failed, 1 warning" || r.Findings[0].Doc != "clock" || r.Findings[1].Doc != "system-unreachable" ||
		!r.At.Equal(at) || r.At.Location() != time.UTC || len(r.NotTested) < 5 {
		t.Errorf("%+v", r)
	}
	if empty := NewReport("1.2", at, nil); empty.Findings == nil || empty.Worst != OK {
		t.Errorf("%+v", empty)
	}
	if Runbook("nothing") != "" {
		t.Error("an id that nobody knows leads somewhere")
	}
}
