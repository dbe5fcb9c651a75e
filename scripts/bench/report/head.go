package report

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Head says what was measured, where and when.
type Head struct {
	At       time.Time         `json:"at"`
	Commit   string            `json:"commit"`
	Go       string            `json:"go"`
	Versions map[string]string `json:"versions"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Memory   string            `json:"memory"`
	Kernel   string            `json:"kernel"`
	Disk     string            `json:"disk"` // of the directory where everything is stored
	Load     string            `json:"load"` // averages when it began: others on the machine spoil the figures
}

// NewHead looks around. peers are the modules of this one whose versions count, dir is where
// data goes.
func NewHead(dir string, peers ...string) Head {
	h := Head{At: time.Now().UTC().Truncate(time.Second), Commit: command("git", "describe", "--always", "--dirty"), Go: runtime.Version(),
		Versions: map[string]string{}, CPU: after("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: after("/proc/meminfo", "MemTotal"),
		Kernel: command("uname", "-r"), Disk: disk(dir), Load: text("/proc/loadavg")}
	for _, peer := range peers {
		h.Versions[peer] = command("go", "list", "-m", "-f", "{{.Version}}", peer)
	}
	return h
}

// String is the head as the tables' first line.
func (h Head) String() string {
	out := fmt.Sprintf("%s, commit %s, %s, %d x %s, %s, Linux %s, data on %s, load average at the start %s",
		h.At.Format(time.RFC3339), h.Commit, h.Go, h.Cores, h.CPU, h.Memory, h.Kernel, h.Disk, h.Load)
	for _, name := range slices.Sorted(maps.Keys(h.Versions)) {
		out += fmt.Sprintf(", %s %s", name, h.Versions[name])
	}
	return out + "\n"
}

func command(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// after gives what stands behind the colon of a line.
func after(path, name string) string {
	for line := range strings.Lines(text(path)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:"))
		}
	}
	return "unknown"
}

// disk names the device and file system that hold a directory: on one that is memory, an
// fsync costs nothing and every figure is wrong.
func disk(dir string) string {
	var at syscall.Stat_t
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil || syscall.Stat(dir, &at) != nil {
		return "unknown"
	}
	best, name := "", "unknown"
	for line := range strings.Lines(text("/proc/mounts")) {
		f := strings.Fields(line)
		if len(f) < 3 || len(f[1]) < len(best) || f[1] != "/" && dir != f[1] && !strings.HasPrefix(dir, f[1]+"/") {
			continue
		}
		best, name = f[1], f[0]+" "+f[2]
	}
	return name
}
