// Package fulldisk tells a commit of a bbolt file that failed for want of room, and changed
// nothing, from one after which nobody knows what is on disk.
//
// It stands alone because the journal and the deliveries' progress both wait for room instead
// of ending. It refuses to know what the files hold. Its invariant: a failed sync is never
// taken for a full disk, whatever its cause.
package fulldisk

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
)

// Is reports whether a commit failed for want of room only. A sync's error comes from bbolt
// as a bare number or with its name, one of growing the file as text.
func Is(err error) bool {
	var path *fs.PathError
	var errno syscall.Errno
	if errors.As(err, &path) && path.Op != "sync" && errors.As(err, &errno) {
		return slices.Contains(noSpace, errno)
	}
	text := err.Error()
	if !strings.HasPrefix(text, "file resize error:") && !strings.HasPrefix(text, "mmap allocate error:") {
		return false
	}
	return slices.ContainsFunc(noSpace, func(e syscall.Errno) bool { return strings.Contains(text, e.Error()) })
}
