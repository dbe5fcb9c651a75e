//go:build unix

package fulldisk

import "syscall"

// noSpace lists what a write call says when there is no room for it.
var noSpace = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG}
