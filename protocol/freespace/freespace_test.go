package freespace

import (
	"path/filepath"
	"testing"
)

func TestOf(t *testing.T) {
	if free, err := Of(t.TempDir()); err != nil || free <= 0 {
		t.Errorf("%d, %v", free, err)
	}
	if _, err := Of(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a directory that is not there has room")
	}
}
