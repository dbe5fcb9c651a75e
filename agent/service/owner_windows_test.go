package service

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"
)

// Nothing of the machine's directory is inherited from above, and what is in it has its access.
func TestProtect(t *testing.T) {
	if !windows.GetCurrentProcessToken().IsElevated() {
		t.Skip("only an administrator can give a directory to the administrators")
	}
	dir := filepath.Join(t.TempDir(), "Crossdock")
	before, after := filepath.Join(dir, "conf.d"), filepath.Join(dir, "data")
	if err := errors.Join(os.MkdirAll(before, 0o755), protect(dir), protect(dir), os.Mkdir(after, 0o755)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:    "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)",
		before: "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)",
		after:  "D:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)",
	} {
		got, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
		if err != nil || got.String() != want {
			t.Errorf("%s has %v, %v; want %s", path, got, err, want)
		}
	}
}

func TestBelow(t *testing.T) {
	const dir = `C:\ProgramData\Crossdock`
	for path, want := range map[string]bool{
		dir: true, `c:\programdata\crossdock\data`: true, `C:\ProgramData\Crossdock\agent.yaml`: true,
		`C:\ProgramData\Crossdocks`: false, `C:\ProgramData`: false, `D:\data`: false,
	} {
		if got := below(dir, path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
