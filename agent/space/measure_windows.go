package space

import (
	"os"

	"golang.org/x/sys/windows"
)

// Measure tells of the file system below a directory.
func Measure(dir string) (FileSystem, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return FileSystem{}, err
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &total, nil); err != nil {
		return FileSystem{}, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return FileSystem{Free: int64(free), Total: int64(total)}, nil
}
