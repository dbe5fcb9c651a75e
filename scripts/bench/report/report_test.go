package report

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}, {[]float64{7}, 7}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("nothing has a median")
	}
}

func TestTableShowsMediansRatiosAndTargets(t *testing.T) {
	var lines, out bytes.Buffer
	b := NewBook(&lines, Head{Commit: "abc"})
	note := func(arm, cell, unit string, values ...float64) {
		for round, v := range values {
			b.Note(Line{Section: "s", Arm: arm, Cell: cell, Unit: unit, Round: round, Value: v})
		}
	}
	note("ours", "rate", "events/s", 100, 300, 200)
	note("theirs", "rate", "events/s", 10, 20, 30)
	note("ours", "cost", "us/event", 3)
	note("theirs", "cost", "us/event", 2)
	note("ours", "lost", "events", 0)
	note("ours", "refused", "events", 1)
	s := Section{Name: "s", Title: "something", Arms: []string{"ours", "theirs"}, Targets: []Target{
		{Cell: "rate", Peer: "theirs", Least: 10}, {Cell: "rate", Peer: "theirs", Least: 11},
		{Cell: "cost", Peer: "theirs", Most: 1}, {Cell: "cost", Most: 3}, {Cell: "other", Most: 3},
		{Cell: "lost", None: true}, {Cell: "refused", None: true}}}
	if err := b.Print(&out, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Medians of 3 rounds", "rate to theirs, at least 10: 10.0, met", "rate to theirs, at least 11: 10.0, missed",
		"cost to theirs, at most 1: 1.50, missed", "cost, at most 3: 3.00, met", "other, at most 3: -, not measured",
		"lost, none: 0.00, met", "refused, none: 1.00, missed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	row := strings.Fields(strings.ReplaceAll(strings.Split(out.String(), "\n")[7], "|", " "))
	if got, want := strings.Join(row, " "), "rate events/s 200 20.0 10.0"; got != want {
		t.Errorf("the first row is %q, want %q", got, want)
	}
	if got := bytes.Count(lines.Bytes(), []byte("\n")); got != 11 || b.Err() != nil {
		t.Errorf("%d lines with the head, want 11; %v", got, b.Err())
	}
	for line := range bytes.Lines(lines.Bytes()) {
		if !json.Valid(line) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

func TestValuesThatCannotBeKeptAreToldOf(t *testing.T) {
	b := NewBook(full{}, Head{})
	b.Note(Line{Value: 1})
	if b.Err() == nil {
		t.Error("the disk is full and nobody knows")
	}
	b = NewBook(&bytes.Buffer{}, Head{})
	b.Note(Line{Value: math.Inf(1)})
	if b.Err() == nil {
		t.Error("a value that JSON does not have was kept")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, bytes.ErrTooLarge }
