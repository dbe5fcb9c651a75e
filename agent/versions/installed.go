package versions

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"
)

// maxSay bounds how long a program may take to say its version.
const maxSay = 10 * time.Second

// installedFile is the file of the installed program as it was when this process began. A
// package may bring another one while the agent runs, and the next start is a start of that.
type installedFile struct {
	path string
	was  fs.FileInfo
}

func (s Start) file() (f installedFile) {
	f.path = s.launcher
	var err error
	if f.path == "" {
		if f.path, err = os.Executable(); err != nil {
			return installedFile{}
		}
	}
	if f.was, err = os.Stat(f.path); err != nil {
		return installedFile{}
	}
	return f
}

// version is that of the file as it is now. Another one than it was is asked; one that does not
// say it is taken for the one that it was.
func (f installedFile) version(was string) string {
	if f.was == nil {
		return was
	}
	now, err := os.Stat(f.path)
	if err != nil || os.SameFile(f.was, now) && now.ModTime().Equal(f.was.ModTime()) && now.Size() == f.was.Size() {
		return was
	}
	ctx, cancel := context.WithTimeout(context.Background(), maxSay)
	defer cancel()
	text, err := exec.CommandContext(ctx, f.path, "version").Output() //nolint:gosec // the installed program, which every start runs
	words := strings.Fields(string(text))
	if err != nil || len(words) == 0 {
		return was
	}
	return words[len(words)-1]
}
