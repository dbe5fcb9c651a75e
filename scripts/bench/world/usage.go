package world

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of times in /proc: 1/100 s on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// Usage is what a process has used since its start, as the kernel counts it.
type Usage struct {
	CPU     time.Duration // user and system, all threads
	RSS     int64         // bytes of memory now
	Anon    int64         // of it, those that are no pages of files, which the kernel may take back
	Peak    int64         // and at most
	Written int64         // bytes sent to disk, or that will be
}

// Usage reads what the process has used.
func (p *Process) Usage() (Usage, error) {
	u, err := usageOf(p.Name, p.cmd.Process.Pid)
	return u, errors.Join(err, p.Err())
}

func procDir(pid int) string { return filepath.Join("/proc", strconv.Itoa(pid)) }

func usageOf(name string, pid int) (u Usage, err error) {
	dir := procDir(pid)
	stat, err1 := os.ReadFile(filepath.Join(dir, "stat"))
	status, err2 := os.ReadFile(filepath.Join(dir, "status"))
	io, err3 := os.ReadFile(filepath.Join(dir, "io"))
	if err := errors.Join(err1, err2, err3); err != nil {
		return u, fmt.Errorf("usage of %s: %w", name, err)
	}
	if u.CPU, err = cpuOf(string(stat)); err != nil {
		return u, fmt.Errorf("usage of %s: %w", name, err)
	}
	for _, f := range []struct {
		text, name string
		unit       int64
		to         *int64
	}{
		{string(status), "VmRSS:", 1 << 10, &u.RSS}, {string(status), "VmHWM:", 1 << 10, &u.Peak},
		{string(status), "RssAnon:", 1 << 10, &u.Anon},
		{string(io), "write_bytes:", 1, &u.Written},
	} {
		n, err := field(f.text, f.name)
		if err != nil {
			return u, fmt.Errorf("usage of %s: %w", name, err)
		}
		*f.to = n * f.unit
	}
	return u, nil
}

// cpuOf reads /proc/PID/stat. The program's name stands in brackets and may hold anything.
func cpuOf(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const user, system = 11, 12 // counted from behind the name
	if len(fields) <= system {
		return 0, fmt.Errorf("stat has %d fields behind the name", len(fields))
	}
	u, err1 := strconv.ParseInt(fields[user], 10, 64)
	s, err2 := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(u+s) * tick, errors.Join(err1, err2)
}

// field finds the number behind a name at the beginning of a line.
func field(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

// Total is the usage of many processes by place.
type Total map[Place]Usage

// TotalOf adds up what processes have used.
func TotalOf(processes []*Process) (Total, error) {
	t := Total{}
	for _, p := range processes {
		one, err := p.Usage()
		if err != nil {
			return nil, err
		}
		sum := t[p.Place]
		sum.CPU += one.CPU
		sum.RSS += one.RSS
		sum.Anon += one.Anon
		sum.Peak += one.Peak
		sum.Written += one.Written
		t[p.Place] = sum
	}
	return t, nil
}

// All adds up the places.
func (t Total) All() (sum Usage) {
	for _, u := range t {
		sum.CPU += u.CPU
		sum.RSS += u.RSS
		sum.Anon += u.Anon
		sum.Peak += u.Peak
		sum.Written += u.Written
	}
	return sum
}

// OwnCPU is what the process that measures has used itself: for the load and the sink.
func OwnCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
