package world

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Ports lie below those that the system gives to outgoing connections: they must still be
// free when a program comes to listen, and tell the two ends of a connection apart.
const (
	firstPort = 20_000
	lastPort  = 31_999
)

var given struct {
	sync.Mutex
	ports map[int]bool
}

// FreeAddress finds a port on loopback that nothing uses, for TCP nor UDP, and never gives it twice.
func FreeAddress() (string, error) {
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if given.ports[port] || !free(address) {
			continue
		}
		given.ports[port] = true
		return address, nil
	}
	return "", fmt.Errorf("no port from %d to %d is free", firstPort, lastPort)
}

func free(address string) bool {
	t, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	t.Close()
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	u.Close()
	return true
}

// addresses finds several.
func addresses(n int) ([]string, error) {
	out := make([]string, n)
	for i := range out {
		var err error
		if out[i], err = FreeAddress(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// portsOf are several as a set of nftables has them.
func portsOf(addresses []string) string {
	var ports []string
	for _, a := range addresses {
		ports = append(ports, portOf(a))
	}
	return strings.Join(ports, ", ")
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err) // addresses come from FreeAddress
	}
	return port
}
