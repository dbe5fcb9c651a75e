package queue

import "github.com/crossdock/crossdock/protocol/freespace"

// FreeSpace is what the disk below dir has left for this user, 0 if that cannot be told.
func FreeSpace(dir string) int64 {
	free, err := freespace.Of(dir)
	if err != nil {
		return 0
	}
	return free
}
