package settings

import (
	"context"
	"net"
)

// HostPort takes host:port apart. Its port is one that there can be: a number up to 65535, or
// the name of a service that this machine knows.
func HostPort(address string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(address); err != nil {
		return "", "", err
	}
	if _, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", port); err != nil { // asks nobody else
		return "", "", err
	}
	return host, port, nil
}
