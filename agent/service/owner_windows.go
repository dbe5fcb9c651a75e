package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// KeepOwner has nothing to do: files of Windows have the access of their directory.
func KeepOwner(string) error { return nil }

// Share has nothing to do, for the same reason.
func Share(string) error { return nil }

// onlyMachine gives a directory to the administrators: it is theirs and the system's, nothing is
// inherited from above, and what is in it inherits that.
const onlyMachine = "O:BAD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"

// Protect keeps the machine's directory of Crossdock from other users, before one of some paths
// is written in it: everybody may read what is below ProgramData, and put files there.
func Protect(paths ...string) error {
	dir := filepath.Dir(recordPath)
	for _, path := range paths {
		if below(dir, path) {
			if !windows.GetCurrentProcessToken().IsElevated() {
				return fmt.Errorf("%w: %s is the machine's; say it again in a window of an administrator, or name other places with --config and --data", ErrDenied, dir)
			}
			return protect(dir)
		}
	}
	return nil
}

func below(dir, path string) bool {
	path, err := filepath.Abs(path)
	return err == nil && strings.HasPrefix(strings.ToLower(path)+`\`, strings.ToLower(dir)+`\`)
}

func protect(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return denied(err)
	}
	only, err := windows.SecurityDescriptorFromString(onlyMachine)
	if err != nil {
		return err
	}
	owner, _, err := only.Owner()
	if err != nil {
		return err
	}
	access, _, err := only.DACL()
	if err != nil {
		return err
	}
	err = windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, owner, nil, access, nil)
	if err != nil {
		return fmt.Errorf("keep %s from other users: %w", dir, denied(err))
	}
	return nil
}
