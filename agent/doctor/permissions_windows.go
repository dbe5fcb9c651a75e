package doctor

import (
	"fmt"
	"os"
)

// Private looks whether the data directory is there. Who may read it is not looked at here.
func Private(dir string) []Finding {
	if _, err := os.Stat(dir); err != nil {
		return []Finding{{ID: "data-permissions", Level: Fail, Seen: err.Error(), Todo: "make the data directory there, for the service's user"}}
	}
	return nil
}

// Secrets looks whether the directory of secrets can be read.
func Secrets(dir, _ string) Finding {
	f := Finding{ID: "secrets", Level: OK}
	entries, err := os.ReadDir(dir)
	switch {
	case os.IsNotExist(err):
		f.Seen = dir + " is not there: no secrets are kept in files"
	case err != nil:
		f.Level, f.Seen, f.Todo = Fail, err.Error(), "let the service's user read it"
	default:
		f.Seen = fmt.Sprintf("%d in %s can be listed", len(entries), dir)
	}
	return f
}
