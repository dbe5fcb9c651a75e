package fulldisk

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestIs(t *testing.T) {
	for _, errno := range noSpace {
		for _, c := range []struct {
			err  error
			want bool
		}{
			{&fs.PathError{Op: "write", Path: "f", Err: errno}, true},
			{fmt.Errorf("append: %w", &fs.PathError{Op: "write", Path: "f", Err: errno}), true},
			{fmt.Errorf("file resize error: %s", &fs.PathError{Op: "truncate", Path: "f", Err: errno}), true}, //nolint:errorlint // as bbolt writes it
			{errno, false}, // as fdatasync returns it: what is on disk is unknown
			{&fs.PathError{Op: "sync", Path: "f", Err: errno}, false},
			{fmt.Errorf("file sync error: %s", errno), false}, //nolint:errorlint // as bbolt writes it
		} {
			if got := Is(c.err); got != c.want {
				t.Errorf("%v: got %t, want %t", c.err, got, c.want)
			}
		}
	}
	for _, err := range []error{errors.New("input/output error"), errors.New("file resize error: input/output error")} {
		if Is(err) {
			t.Errorf("%v is taken for a full disk", err)
		}
	}
}
