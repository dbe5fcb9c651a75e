// Package freespace owns the question of how much room a disk has left.
//
// It refuses to know what the room is for. It stands here because the stores of both programs ask
// it, and neither may import the other. Its invariant: what it gives is what this user may still
// write, not what the disk keeps for others.
package freespace

// Disk is a file system in bytes: what is free for this user, and all of it.
type Disk struct{ Free, Total int64 }

// Measure tells of the file system below a directory.
func Measure(dir string) (Disk, error) { return measure(dir) }

// Of gives the bytes that are free where a directory is.
func Of(dir string) (int64, error) {
	disk, err := measure(dir)
	return disk.Free, err
}
