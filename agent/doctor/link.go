package doctor

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/transport"
)

// Path is a way to the control plane, and what a whole handshake and a real hello on it saw.
type Path struct {
	Transport string
	Address   string
	Learned   bool // told by the control plane, and not in the configuration
	Took      time.Duration
	Skew      time.Duration // the control plane's clock less ours
	Epoch     uint64        // that it has granted to this agent
	Protocol  uint32        // that it speaks with this agent
	Err       error
}

// Links judges the ways to the control plane, one finding for each transport. refused says why the control plane does not accept this agent, where that is
// what stands in the way.
func Links(paths []Path) (findings []Finding, refused string) {
	by, open, there := map[string][]Path{}, map[string]int{}, map[string]bool{}
	for _, p := range paths {
		by[p.Transport] = append(by[p.Transport], p)
		if p.Err == nil {
			open[p.Transport]++
			there[p.Address] = true
		}
	}
	for _, name := range []transport.Mode{transport.QUIC, transport.TCP} {
		if of := by[string(name)]; len(of) > 0 {
			findings = append(findings, link(of, open[string(name)], len(by) > 1, open[string(transport.TCP)] > 0))
		}
	}
	if len(there) == 0 {
		return findings, refusal(paths)
	}
	return append(findings, silent(paths, there)...), ""
}

// link judges the paths of one transport. Where both are tried, TCP serves as well as QUIC,
// only slower on a bad line; and what fails on both has one cause, which is told once.
func link(paths []Path, open int, both, tcp bool) Finding {
	name := paths[0].Transport
	f := Finding{ID: "link-" + name}
	if open > 0 {
		f.Level, f.Seen = OK, answered(paths, open)
		return f
	}
	f.Level, f.Seen, f.Todo = Fail, failures(paths), todo(paths)
	if refusal(paths) != "" {
		f.Doc = Runbook("certificate")
	} else if slices.ContainsFunc(paths, func(p Path) bool { return untimely(p.Err) }) {
		f.Doc = Runbook("clock")
	}
	switch {
	case name != string(transport.QUIC) || !both:
	case tcp:
		f.Level, f.Todo = Warn, "let this server send UDP to the control plane's port and receive the answers; until then TCP is used"
	case f.Doc != "": // the same over both
		f.Level = Warn
	default:
		f.Level, f.Todo = Warn, "see link-tcp, which fails as well: most likely both have one cause, and it is not UDP"
	}
	return f
}

func answered(paths []Path, open int) string {
	var best *Path
	for i, p := range paths {
		if p.Err == nil && (best == nil || p.Took < best.Took) {
			best = &paths[i]
		}
	}
	seen := fmt.Sprintf("%s answered over %s in %d ms", best.Address, best.Transport, best.Took.Milliseconds())
	if len(paths) > 1 {
		seen += fmt.Sprintf(" (%d of %d addresses do)", open, len(paths))
	}
	return seen
}

func failures(paths []Path) string {
	said := make([]string, len(paths))
	for i, p := range paths {
		said[i] = Plain(p.Err, p.Took)
		if !strings.Contains(said[i], p.Address) {
			said[i] = p.Address + ": " + said[i]
		}
	}
	return strings.Join(said, "; ")
}

// silent tells of addresses at which nobody answers while others do: the agent works, and
// has one way less than it seems.
func silent(paths []Path, there map[string]bool) []Finding {
	var of []Path
	told, configured := map[string]bool{}, false
	for i := len(paths) - 1; i >= 0; i-- { // TCP says more, and comes last
		if p := paths[i]; !there[p.Address] && !told[p.Address] {
			told[p.Address] = true
			of = append(of, p)
			configured = configured || !p.Learned
		}
	}
	if len(of) == 0 {
		return nil
	}
	f := Finding{ID: "addresses", Level: Warn, Seen: failures(of),
		Todo: "the agent uses the others; see whether that node runs, and whether this site may reach it"}
	if configured {
		f.Todo += "; take an address that is gone out of controlplane.addresses"
	}
	return []Finding{f}
}

// turnedAway tells a certificate that was refused from a way that is not open.
func turnedAway(err error) bool {
	return errors.Is(err, transport.ErrRefused) || connect.CodeOf(err) == connect.CodePermissionDenied && connect.IsWireError(err)
}

// untimely tells a certificate of the control plane's that is not valid at the time of this
// clock. A node renews its own long before it ends, so that a clock is the first to look at.
func untimely(err error) bool {
	of, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && of.Reason == x509.Expired
}

func refusal(paths []Path) string {
	for i := len(paths) - 1; i >= 0; i-- {
		if turnedAway(paths[i].Err) {
			return Plain(paths[i].Err, paths[i].Took)
		}
	}
	return ""
}

// todo says what to do about what is best known of some failures.
func todo(paths []Path) string {
	const out = "let this server connect out to the control plane's port; check names, firewall and proxy"
	for _, cause := range []struct {
		is   func(error) bool
		todo string
	}{
		{turnedAway, "nothing is wrong with the line: see certificate"},
		{func(err error) bool { return errors.Is(err, transport.ErrExpired) },
			"nothing is wrong with the line: see certificate; a running agent renews it by itself"},
		{func(err error) bool { return errors.Is(err, transport.ErrForeignIssuer) },
			"have the proxy let this traffic pass without inspection, or correct controlplane.addresses: another cluster answers there"},
		{func(err error) bool {
			return connect.CodeOf(err) == connect.CodeUnavailable && connect.IsWireError(err)
		},
			"nothing is wrong with the line: see crossdock cluster status at the control plane"},
		{untimely, "nothing is wrong with the line: this clock or the control plane's is wrong, see clock"},
		{refused, "does the control plane run there? nobody listens at that address and port; then: " + out},
		{func(err error) bool { _, ok := errors.AsType[*net.DNSError](err); return ok },
			"correct the name in controlplane.addresses, or have this site's DNS know it"},
	} {
		for _, p := range paths {
			if cause.is(p.Err) {
				return cause.todo
			}
		}
	}
	return out
}

// Refused tells of a certificate that is good by itself, and that the control plane does
// not accept from the agent of a site.
func Refused(why, site string) Finding {
	again := "crossdock token create --site " + site + " at the control plane, then crossdock-agent enroll here, with the agent stopped (crossdock-agent service stop), and start it again"
	f := Finding{ID: "certificate", Level: Fail, Seen: why, Todo: "enrol again: " + again}
	if strings.Contains(why, revokedWords) {
		f.Seen = "the control plane has revoked this agent: it takes nothing from here and sends nothing. The site goes on alone, by the policy that it holds, and what is for others waits here (" + why + ")"
		f.Todo = "ask who runs the control plane whether that is meant; crossdock audit there says who did it. If another server serves site " + site +
			" by now, take this one out of service: crossdock-agent uninstall. Else enrol again, which keeps what waits here: " + again
	}
	return f
}

// revokedWords are in what the control plane says to an agent that was revoked.
const revokedWords = " is revoked"

// refused tells a machine that answered, and has nobody at the port, from one that is silent.
func refused(err error) bool {
	return strings.Contains(err.Error(), "refused") // errno differs from system to system, the words do not
}
