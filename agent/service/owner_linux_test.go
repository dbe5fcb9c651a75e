package service

import (
	"fmt"
	"io/fs"
	"syscall"
)

func ownerOf(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "nobody knows"
	}
	return fmt.Sprintf("%d:%d", stat.Uid, stat.Gid)
}
