package queue

import "golang.org/x/sys/unix"

// rest lets go of the pages of a file that was read to its end: they are mapped, and count
// as memory of this process until the kernel needs them elsewhere. What is read again is
// mapped again. Beyond the pages in use, which surely are of this map, a few may stay. The
// caller holds Log.mu, so that the file stays open.
func (s *segment) rest() {
	if s.db == nil || s.size <= 0 {
		return
	}
	// It does not touch what is in the pages, and a refusal leaves things as they are.
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, s.db.Info().Data, uintptr(s.size), unix.MADV_DONTNEED)
}
