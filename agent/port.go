package agent

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrPortInUse says that somebody else listens on a port of this agent.
var ErrPortInUse = errors.New("another program has this port")

// wsaAddressInUse is what Windows says; package syscall has no name for it.
const wsaAddressInUse = syscall.Errno(10048)

// listening marks the failure to open a port that somebody else has.
func listening(key string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && (errno == syscall.EADDRINUSE || errno == wsaAddressInUse) {
		return fmt.Errorf("%w (%w): is another agent running on this machine? Stop it, or set another %s in the configuration", err, ErrPortInUse, key)
	}
	return err
}
