package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// recordFile holds a line for each run.
var recordFile = filepath.Join("scripts", "fuzz", "record.jsonl")

// line is one run of one target.
type line struct {
	At         time.Time `json:"at"`
	Commit     string    `json:"commit"`
	Target     string    `json:"target"`
	Seconds    float64   `json:"seconds"`
	Executions int64     `json:"executions"`
	Failed     bool      `json:"failed,omitempty"`
}

const dirty = "-dirty" // ends the name of a commit that is not what was tested

// read gives all lines of a record; one that does not exist has none.
func read(file string) ([]line, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	var out []line
	texts := bufio.NewScanner(f)
	for number := 1; texts.Scan(); number++ {
		var l line
		d := json.NewDecoder(bytes.NewReader(texts.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		out = append(out, l)
	}
	return out, texts.Err()
}

func note(file string, l line) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// commit names what is tested. The record and the kept inputs are no part of that.
func commit() string {
	name, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown" + dirty
	}
	changed, err := exec.Command("git", "status", "--porcelain", "--", ":/", ":(exclude,top)scripts/fuzz/record.jsonl",
		":(exclude,top,glob)**/testdata/fuzz/**").Output()
	if err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(name)) + dirty
	}
	return strings.TrimSpace(string(name))
}

// total is what the runs of one target come to.
type total struct {
	runs, failed int
	result
	last time.Time
}

// times adds the runs up by target. A failed run tells of a fault; when that is mended the
// time is due again. So is the time on sources that no commit holds.
func times(past []line) map[string]total {
	out := map[string]total{}
	for _, l := range past {
		t := out[l.Target]
		switch {
		case l.Failed:
			t.failed++
		case !strings.HasSuffix(l.Commit, dirty):
			t.runs++
			t.seconds += l.Seconds
			t.executions += l.Executions
			t.last = l.At
		}
		out[l.Target] = t
	}
	return out
}

// sumUp prints what every target of the tree had, those without any time too.
func sumUp(all []target, past []line, out io.Writer) error {
	had := times(past)
	for _, t := range all {
		one := had[t.String()]
		last := "never"
		if one.runs > 0 {
			last = one.last.Format(time.DateOnly)
		}
		fmt.Fprintf(out, "%-48s %7.1f min %12d executions in %d runs, last %s, %d failed\n", t, one.seconds/60, one.executions, one.runs, last, one.failed)
	}
	return nil
}
