// Package record owns the files of lines in which runs that prove something leave what came
// of them, each for the commit that it is about.
//
// It stands by itself because both the fuzz targets and the chaos runs keep such a file. It
// refuses to know what a line says. Its invariant: what was not wholly of a commit bears a
// name that no commit has.
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Dirty ends the name of a commit that is not what was tested.
const Dirty = "-dirty"

// Parse reads a line into v and refuses what v does not know: who writes and who reads speak
// of the same.
func Parse(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// Append adds v as a line to a file, which need not exist.
func Append(file string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// Commit names what is tested. The files that match a glob of except, from the top of the
// tree, are no part of that.
func Commit(except ...string) string {
	name, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown" + Dirty
	}
	ask := []string{"status", "--porcelain", "--", ":/"}
	for _, glob := range except {
		ask = append(ask, ":(exclude,top,glob)"+glob)
	}
	changed, err := exec.Command("git", ask...).Output()
	if err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(name)) + Dirty
	}
	return strings.TrimSpace(string(name))
}
