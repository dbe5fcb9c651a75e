// Package freespace owns the question of how much room a disk has left.
//
// It refuses to know what the room is for. It stands here because the stores of both programs ask
// it, and neither may import the other. Its invariant: what it gives is what this user may still
// write, not what the disk keeps for others.
package freespace

// Of gives the bytes that are free where a directory is.
func Of(dir string) (int64, error) { return of(dir) }
