package sealing

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Host reads a host that a secret may be sent to, as HOST or HOST:PORT, and gives its one
// spelling. Without a port it is that of the scheme, 443 or 80. There are no patterns: a name
// stands for itself and for nothing below it.
func Host(text string) (string, error) {
	host, port := text, ""
	if h, p, err := net.SplitHostPort(text); err == nil {
		if host, port = h, p; port == "" {
			return "", noHost(text)
		}
	}
	name, err := hostName(host)
	if err != nil {
		return "", err
	}
	if port == "" {
		return name, nil
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return "", noHost(text)
	}
	return net.JoinHostPort(name, strconv.FormatUint(number, 10)), nil
}

// hostName makes all spellings of a host equal: case, a final dot, brackets around IPv6, an
// address of IPv4 within IPv6, letters beyond ASCII.
func hostName(text string) (string, error) {
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		text = text[1 : len(text)-1]
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		if ip.Zone() != "" {
			return "", fmt.Errorf("%q has a zone, which says nothing beyond one machine", text)
		}
		return ip.Unmap().String(), nil
	}
	name := strings.TrimSuffix(text, ".")
	if strings.ContainsFunc(name, func(r rune) bool { return r > '~' }) {
		ascii, err := idna.Lookup.ToASCII(name) // as the HTTP client does it
		if err != nil {
			return "", fmt.Errorf("%q is no name of a host: %w", text, err)
		}
		name = ascii
	}
	name = strings.ToLower(name)
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	}
	if name == "" || len(name) > 253 || strings.ContainsFunc(name, other) || slices.Contains(strings.Split(name, "."), "") {
		return "", noHost(text)
	}
	return name, nil
}

func noHost(text string) error {
	return fmt.Errorf("%q is no host: write HOST or HOST:PORT, such as erp.example or erp.example:8443, each exactly, without a pattern, scheme or path", text)
}

// HostOf gives the host that a URL leads to, as Host writes it.
func HostOf(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return "", fmt.Errorf("the URL names no host")
	}
	name, err := hostName(u.Hostname())
	if port := u.Port(); err == nil && port != "" && port != defaultPort(u.Scheme) {
		return Host(net.JoinHostPort(name, port))
	}
	return name, err
}

func defaultPort(scheme string) string {
	return map[string]string{"https": "443", "http": "80"}[strings.ToLower(scheme)]
}

// Allows says whether what was sealed for these hosts only may go to a URL; what was sealed
// for none in particular may go anywhere.
func Allows(only []string, to string) bool {
	if len(only) == 0 {
		return true
	}
	u, err := url.Parse(to)
	if err != nil || defaultPort(u.Scheme) == "" {
		return false
	}
	want, err := HostOf(to)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(only, func(one string) bool {
		host, err := Host(one)
		if h, port, split := net.SplitHostPort(host); split == nil && port == defaultPort(u.Scheme) {
			host, err = hostName(h)
		}
		return err == nil && host == want
	})
}
