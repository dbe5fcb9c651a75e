package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crossdock/crossdock/scripts/record"
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
		if err := record.Parse(texts.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number, err)
		}
		out = append(out, l)
	}
	return out, texts.Err()
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
		case !strings.HasSuffix(l.Commit, record.Dirty):
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
