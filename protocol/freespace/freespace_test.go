package freespace

import (
	"path/filepath"
	"testing"
)

func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	disk, err := Measure(dir)
	if err != nil || disk.Free <= 0 || disk.Total < disk.Free {
		t.Errorf("%+v %v", disk, err)
	}
	if free, err := Of(dir); err != nil || free <= 0 || free > disk.Total {
		t.Errorf("%d of %d, %v", free, disk.Total, err)
	}
	none := filepath.Join(dir, "none")
	if _, err := Measure(none); err == nil {
		t.Error("a directory that is not there has a file system")
	}
	if _, err := Of(none); err == nil {
		t.Error("a directory that is not there has room")
	}
}
