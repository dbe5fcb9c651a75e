package doctor

import "golang.org/x/sys/unix"

// listed reports whether a file or directory has a list of its own of who may use it, beside its mode.
func listed(path string) bool {
	size, err := unix.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && size > 0
}
