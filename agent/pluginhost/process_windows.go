package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

// lifeline is not needed: the job ends the plugin. A descriptor is no handle here.
var lifeline []string

// command runs a program by its path, which cannot be changed while openProgram's handle is open.
func command(program *os.File) *exec.Cmd { return &exec.Cmd{Path: program.Name()} }

// openProgram opens a program so that until it is closed nobody can write to it, remove it or
// put another in its place. It fails while somebody has it open for writing.
func openProgram(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	handle, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING,
		windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(handle), path), nil
}

// openIn opens what is only to be copied.
func openIn(root *os.Root, name string) (*os.File, error) { return root.Open(name) }

func settle() {}

// guard keeps all but the system, its administrators and this user out of a directory: the
// rights that a directory inherits may let others write.
func guard(dir string) error {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("who runs the agent: %w", err)
	}
	const all = "(A;OICI;FA;;;%s)"
	wanted, err := windows.SecurityDescriptorFromString("D:P" + fmt.Sprintf(all+all+all, "SY", "BA", user.User.Sid))
	if err != nil {
		return fmt.Errorf("rights of %s: %w", dir, err)
	}
	list, _, err := wanted.DACL()
	if err != nil {
		return fmt.Errorf("rights of %s: %w", dir, err)
	}
	const what = windows.DACL_SECURITY_INFORMATION | windows.PROTECTED_DACL_SECURITY_INFORMATION
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, what, nil, nil, list, nil); err != nil {
		return fmt.Errorf("rights of %s: %w", dir, err)
	}
	return nil
}

// start starts a process in a job of its own, which ends it when the agent's handle to the job
// is closed, by whatever, and which gets no more memory than is allowed.
func start(cmd *exec.Cmd, memory int64) (release func(), err error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("make a job for the plugin: %w", err)
	}
	release = func() { _ = windows.CloseHandle(job) }
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_JOB_MEMORY
	info.JobMemoryLimit = uintptr(memory)
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
