package delivery

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestIsFull(t *testing.T) {
	for _, errno := range noSpace {
		if !isFull(fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "delivery.db", Err: errno})) {
			t.Errorf("%v while writing is not full", errno)
		}
		if !isFull(fmt.Errorf("file resize error: %s", &fs.PathError{Op: "truncate", Path: "delivery.db", Err: errno})) { //nolint:errorlint // as bbolt writes it
			t.Errorf("%v while growing is not full", errno)
		}
		if isFull(&fs.PathError{Op: "sync", Path: "delivery.db", Err: errno}) {
			t.Errorf("a failed sync with %v is taken for a full disk", errno)
		}
	}
	if isFull(errors.New("input/output error")) {
		t.Error("any error is taken for a full disk")
	}
}
