package filedriver

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
)

// Limits on one file.
const (
	MaxFile    = 64 << 20 // bytes
	MaxRecords = 500_000
	maxColumns = 1024
	maxFaults  = 100 // named in one .error.txt; the rest is counted
)

// record is one record of a file: where it stands, and its data as JSON.
type record struct {
	place int // line, or for a JSON array the element, from 1
	data  []byte
}

// fault is what is wrong with one record, or with the file when place is 0.
type fault struct {
	place  int
	reason string
}

func (f fault) String() string {
	if f.place == 0 {
		return f.reason
	}
	return fmt.Sprintf("record at %d: %s", f.place, f.reason)
}

// findings gathers what a parser finds.
type findings struct {
	records []record
	faults  []fault
	more    int // faults beyond maxFaults
}

func (f *findings) fault(place int, format string, args ...any) {
	if len(f.faults) >= maxFaults {
		f.more++
		return
	}
	f.faults = append(f.faults, fault{place, fmt.Sprintf(format, args...)})
}

// add takes a record and says whether there is room for another.
func (f *findings) add(place int, data []byte) bool {
	if len(f.records)+len(f.faults)+f.more >= MaxRecords {
		f.fault(0, "the file has more than %d records; split it", MaxRecords)
		return false
	}
	if len(data) > event.MaxSize {
		f.fault(place, "%d bytes, the limit of an event is %d", len(data), event.MaxSize)
		return true
	}
	f.records = append(f.records, record{place, data})
	return true
}

var parsers = map[string]func(content []byte, f *findings){
	"json":  parseJSON,
	"jsonl": parseLines,
	"csv":   parseCSV,
}

// parse reads all records of a file. Nothing is taken from a file with a fault.
func parse(format string, content []byte) *findings {
	f := &findings{}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(content) {
		line := 1 + bytes.Count(content[:firstInvalid(content)], []byte("\n"))
		f.fault(0, "line %d is not UTF-8; save the file as UTF-8", line)
		return f
	}
	parsers[format](content, f)
	return f
}

func firstInvalid(content []byte) int {
	at := 0
	for at < len(content) {
		r, size := utf8.DecodeRune(content[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return at
}

// parseJSON reads a file that is one record, or an array of them. It walks the array with a
// decoder, element by element, so that one bad element is named by its number.
func parseJSON(content []byte, f *findings) {
	trimmed := bytes.TrimSpace(content)
	if len(trimmed) == 0 || trimmed[0] != '[' {
		if err := event.CheckJSON(trimmed); err != nil {
			f.fault(0, "%v", err)
			return
		}
		f.add(1, trimmed)
		return
	}
	dec := json.NewDecoder(bytes.NewReader(trimmed))
	if _, err := dec.Token(); err != nil {
		f.fault(0, "malformed JSON: %v", err)
		return
	}
	for place := 1; dec.More(); place++ {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			f.fault(place, "malformed JSON: %v", err)
			return
		}
		if err := event.CheckJSON(raw); err != nil {
			f.fault(place, "%v", err)
			continue
		}
		if !f.add(place, raw) {
			return
		}
	}
	if _, err := dec.Token(); err != nil {
		f.fault(0, "the JSON array does not end: is the file complete?")
		return
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		f.fault(0, "something follows after the JSON array")
	}
}

// parseLines reads JSON Lines: one value on each line, empty lines between them.
func parseLines(content []byte, f *findings) {
	place := 0
	for line := range bytes.Lines(content) {
		place++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if err := event.CheckJSON(line); err != nil {
			f.fault(place, "%v", err)
			continue
		}
		if !f.add(place, line) {
			return
		}
	}
}

// parseCSV reads a header row and makes an object of strings of each row below it. The
// separator is the one that the header has: comma, semicolon or tab.
func parseCSV(content []byte, f *findings) {
	r := csv.NewReader(bytes.NewReader(content))
	r.Comma = separator(content)
	r.ReuseRecord = true
	row, err := r.Read()
	if errors.Is(err, io.EOF) {
		f.fault(0, "the file is empty; its first row must name the columns")
		return
	} else if err != nil {
		f.fault(0, "header: %v", err)
		return
	}
	names, err := header(row)
	if err != nil {
		f.fault(0, "header: %v", err)
		return
	}
	for {
		row, err := r.Read()
		var wrong *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return
		case errors.Is(err, csv.ErrFieldCount) && errors.As(err, &wrong):
			f.fault(wrong.StartLine, "%d columns, the header has %d", len(row), len(names))
			continue
		case errors.As(err, &wrong):
			f.fault(wrong.StartLine, "%v; what follows was not read", wrong.Err)
			return
		case err != nil:
			f.fault(0, "%v", err)
			return
		}
		line, _ := r.FieldPos(0)
		if !f.add(line, object(names, row)) {
			return
		}
	}
}

func separator(content []byte) rune {
	line, _, _ := bytes.Cut(content, []byte("\n"))
	best, most := ',', bytes.Count(line, []byte(","))
	for _, c := range ";\t" {
		if n := bytes.Count(line, []byte(string(c))); n > most {
			best, most = c, n
		}
	}
	return best
}

func header(row []string) ([]string, error) {
	if len(row) > maxColumns {
		return nil, fmt.Errorf("%d columns, the limit is %d", len(row), maxColumns)
	}
	names := make([]string, len(row))
	seen := map[string]bool{}
	for i, name := range row {
		name = strings.TrimSpace(name)
		if name == "" {
			return nil, fmt.Errorf("column %d has no name", i+1)
		}
		if seen[name] {
			return nil, fmt.Errorf("two columns are named %q", name)
		}
		seen[name], names[i] = true, name
	}
	return names, nil
}

// object writes a row in the order of its columns.
func object(names, row []string) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(plain(name))
		b.WriteByte(':')
		b.Write(plain(row[i]))
	}
	b.WriteByte('}')
	return b.Bytes()
}

// plain writes JSON without the escapes that only HTML needs.
func plain(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return []byte("null") // strings and results of expressions always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// mapRecord gives the data of the event that a record becomes.
func mapRecord(ctx context.Context, m *expr.Expr, data []byte) ([]byte, error) {
	if m == nil || m.Source() == "." {
		return data, nil
	}
	input, err := expr.Decode(data)
	if err != nil {
		return nil, err
	}
	result, err := m.Eval(ctx, input)
	switch {
	case errors.Is(err, expr.ErrNoResult):
		return nil, errors.New("map: no result; a record cannot be left out in silence")
	case err != nil:
		return nil, fmt.Errorf("map: %w", err)
	}
	return plain(result), nil
}
