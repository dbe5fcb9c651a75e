//go:build unix && !linux

package doctor

// listed says no where the lists of a system are not known here: the mode decides.
func listed(string) bool { return false }
