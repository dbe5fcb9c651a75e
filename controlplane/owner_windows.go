package controlplane

import (
	"errors"
	"os"
	"os/user"

	"golang.org/x/sys/windows"
)

// beginsAs has nothing to say: what an administrator leaves the service reads.
func beginsAs(string, int, func(string) (*user.User, error)) error { return nil }

// giveAll names no command: how accounts are called is not known here.
func giveAll(string) string { return "" }

// ownFile says why an open file is not of the user of this process, nor of the machine's
// administrators.
func ownFile(f *os.File) error {
	security, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	owner, _, err := security.Owner()
	if err != nil {
		return err
	}
	own, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return err
	}
	if owner.Equals(own.User.Sid) || owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) {
		return nil
	}
	return errors.New("it is neither of the server's user nor of the administrators")
}
