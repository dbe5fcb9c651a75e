package release

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
)

// A build puts the version of a program into its file between these, so that it can be read from
// a program of another platform too. The linker does not keep what else would tell it.
const (
	stampHead = "crossdock-release:"
	stampTail = ":of-this-program"
)

var stampForm = regexp.MustCompile(stampHead + `([0-9A-Za-z.+_-]{1,64})` + stampTail)

// Stamped gives the version of a stamp as a build puts it into a program; empty: it is none.
func Stamped(stamp string) (version string) {
	version, ok := strings.CutPrefix(stamp, stampHead)
	if !ok || !strings.HasSuffix(version, stampTail) {
		return ""
	}
	return strings.TrimSuffix(version, stampTail)
}

// ReadStamp finds the version that a program's file is stamped with; empty: it has no stamp.
func ReadStamp(program io.Reader) (version string, err error) {
	const most = len(stampHead) + MaxVersion + len(stampTail)
	buffer := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(program, buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if bytes.Contains(buffer, []byte(stampTail)) { // cheaper than the form
			if found := stampForm.FindSubmatch(buffer); found != nil {
				return string(found[1]), nil
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return "", nil
		} else if err != nil {
			return "", err
		}
		buffer = buffer[:copy(buffer, buffer[len(buffer)-most:])] // a stamp may go on behind
	}
}
