// Package disk gives tests a disk of their own whose power can be cut: an ext4 file system
// in a file. A cut loses everything that was written and not synced, as a power loss does;
// a freeze makes every write hang.
//
// It refuses to know what is kept on it. Its invariant: after Restore the file system holds
// everything that was synced before Cut, and nothing that only stood in memory.
package disk
