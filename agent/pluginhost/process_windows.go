package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

// command runs a program by its path: Windows does not let a file be changed while it is open.
func command(program *os.File) *exec.Cmd { return &exec.Cmd{Path: program.Name()} }

// start starts a process in a job of its own, which ends it when the agent's handle to the job
// is closed, by whatever.
func start(cmd *exec.Cmd) (release func(), err error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("make a job for the plugin: %w", err)
	}
	release = func() { _ = windows.CloseHandle(job) }
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		release()
		return nil, fmt.Errorf("limit the plugin's job: %w", err)
	}
	if err := cmd.Start(); err != nil {
		release()
		return nil, err
	}
	var assigned error
	err = cmd.Process.WithHandle(func(process uintptr) {
		assigned = windows.AssignProcessToJobObject(job, windows.Handle(process))
	})
	if err = errors.Join(err, assigned); err != nil {
		err = errors.Join(fmt.Errorf("put the plugin into its job: %w", err), cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		release()
		return nil, err
	}
	return release, nil
}

var errNotSeen = errors.New("the memory of other processes is not looked at on this system")

func resident(int) (int64, error) { return 0, errNotSeen }
