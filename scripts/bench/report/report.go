// Package report keeps what was measured, and tells it: every value as a line of JSON as
// soon as it is there, medians and their ratios as tables, and whether targets are met.
//
// It refuses to know how anything is measured. Its invariant: a value that was noted is in
// the file of lines, whatever happens after.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Section is a group of measurements with one table.
type Section struct {
	Name    string
	Title   string
	Arms    []string // ours first; the others are what it is compared with
	Targets []Target
}

// Target bounds a ratio of ours to a peer's, or a value of ours where no peer is named.
type Target struct {
	Cell  string
	Peer  string
	Least float64 // 0: none
	Most  float64 // 0: none
	None  bool    // it must be 0
}

// Line is one measured value.
type Line struct {
	Section string  `json:"section"`
	Arm     string  `json:"arm"`
	Cell    string  `json:"cell"`
	Unit    string  `json:"unit"`
	Round   int     `json:"round"`
	Value   float64 `json:"value"`
}

// Book collects values.
type Book struct {
	lines  io.Writer
	values map[string]map[string][]float64 // by section and cell, then arm
	cells  map[string][]cell               // of a section, in the order of their first value
	err    error                           // of writing
}

type cell struct{ name, unit string }

// NewBook writes head as the first line.
func NewBook(lines io.Writer, head Head) *Book {
	b := &Book{lines: lines, values: map[string]map[string][]float64{}, cells: map[string][]cell{}}
	b.write(head)
	return b
}

func (b *Book) write(v any) {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = b.lines.Write(append(text, '\n'))
	}
	b.err = errors.Join(b.err, err)
}

// Err tells of the lines that could not be written.
func (b *Book) Err() error { return b.err }

// Note keeps a value. What could not be measured is not noted.
func (b *Book) Note(l Line) {
	b.write(l)
	key := l.Section + "\x00" + l.Cell
	if b.values[key] == nil {
		b.values[key] = map[string][]float64{}
		b.cells[l.Section] = append(b.cells[l.Section], cell{l.Cell, l.Unit})
	}
	b.values[key][l.Arm] = append(b.values[key][l.Arm], l.Value)
}

// Median of a cell for an arm; not a number while there is no value.
func (b *Book) Median(section, cell, arm string) float64 {
	return median(b.values[section+"\x00"+cell][arm])
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Print writes a section's table and its targets, in Markdown that reads well as it is.
func (b *Book) Print(out io.Writer, s Section) error {
	rows := [][]string{append([]string{"", "unit"}, s.Arms...)}
	for _, arm := range s.Arms[1:] {
		rows[0] = append(rows[0], "to "+arm)
	}
	for _, c := range b.cells[s.Name] {
		own := b.Median(s.Name, c.name, s.Arms[0])
		row := []string{c.name, c.unit}
		for _, arm := range s.Arms {
			row = append(row, number(b.Median(s.Name, c.name, arm)))
		}
		for _, arm := range s.Arms[1:] {
			row = append(row, number(own/b.Median(s.Name, c.name, arm)))
		}
		rows = append(rows, row)
	}
	text := fmt.Sprintf("\n## %s: %s\n\nMedians of %d rounds", s.Name, s.Title, b.rounds(s.Name))
	if len(s.Arms) > 1 {
		text += fmt.Sprintf("; ratios are %s to the other", s.Arms[0])
	}
	text += ".\n\n" + table(rows)
	if len(s.Targets) > 0 {
		text += "\n"
	}
	for _, target := range s.Targets {
		text += "- target: " + b.judge(s, target) + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// table has its first two columns to the left and all others, which are numbers, to the right.
func table(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], len(text))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, text := range row {
			width := widths[i]
			if i < 2 {
				width = -width
			}
			fmt.Fprintf(&b, "| %*s ", width, text)
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			line := strings.Repeat("-", width+2)
			if i >= 2 {
				line = line[1:] + ":"
			}
			b.WriteString("|" + line)
		}
		b.WriteString("|\n")
	}
	return b.String()
}

func (b *Book) rounds(section string) (n int) {
	for key, arms := range b.values {
		if strings.HasPrefix(key, section+"\x00") {
			for v := range maps.Values(arms) {
				n = max(n, len(v))
			}
		}
	}
	return n
}

func (b *Book) judge(s Section, t Target) string {
	got, what := b.Median(s.Name, t.Cell, s.Arms[0]), t.Cell
	if t.Peer != "" {
		got, what = got/b.Median(s.Name, t.Cell, t.Peer), what+" to "+t.Peer
	}
	bound, ok := fmt.Sprint("at least ", t.Least), got >= t.Least
	if t.Most > 0 {
		bound, ok = fmt.Sprint("at most ", t.Most), got <= t.Most
	}
	if t.None {
		bound, ok = "none", got == 0
	}
	verdict := "missed"
	switch {
	case math.IsNaN(got):
		verdict = "not measured"
	case ok:
		verdict = "met"
	}
	return fmt.Sprintf("%s, %s: %s, %s", what, bound, number(got), verdict)
}

// number has three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v), math.IsInf(v, 0):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
