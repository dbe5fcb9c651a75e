package service

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The service reads what root puts into a directory of its group, or of its own.
func TestShare(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const user, group = 12345, 12346
	for _, tt := range []struct {
		name     string
		mode     os.FileMode
		uid, gid int
		want     string
	}{
		{"the packages' directory", 0o750, 0, group, "0:12346 -rw-r-----"},
		{"a directory of root", 0o750, 0, 0, "0:0 -rw-------"},
		{"one that the group may not enter", 0o700, 0, group, "0:12346 -rw-------"},
		{"the service's own", 0o700, user, group, "12345:12346 -rw-------"},
	} {
		dir := filepath.Join(t.TempDir(), "secrets")
		file := filepath.Join(dir, "proxy.password")
		for _, err := range []error{os.Mkdir(dir, tt.mode), os.Chmod(dir, tt.mode), os.Chown(dir, tt.uid, tt.gid), os.WriteFile(file, []byte("x"), 0o600), Share(file)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s %s", ownerOf(info), info.Mode()); got != tt.want {
			t.Errorf("in %s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
