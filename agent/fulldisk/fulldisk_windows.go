package fulldisk

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// noSpace lists what a write call says when there is no room for it.
var noSpace = []syscall.Errno{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}
