//go:build unix

package agent

import (
	"fmt"
	"os"
)

// forOthers reports whether users of other groups can read a file, and its mode.
func forOthers(path string) (readable bool, mode string) {
	info, err := os.Stat(path)
	if err != nil {
		return false, ""
	}
	return info.Mode().Perm()&0o004 != 0, fmt.Sprintf("%04o", info.Mode().Perm())
}
