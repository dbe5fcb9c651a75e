package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/crossdock/crossdock/protocol/release"
)

// show writes an answer: as the API's JSON, or as text for a person.
func (a *app) show(value any, text func(w io.Writer)) error {
	if a.output == "json" {
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(value)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// row writes one line of a table. Values come from systems outside and are cleaned.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = clean(fmt.Sprint(cell))
		if texts[i] == "" {
			texts[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

// clean takes out what could move a terminal's cursor or break a table; lines stay.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
}

// oneLine is for table cells.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// whenMs is for hops, where milliseconds tell the order.
func whenMs(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05.000Z")
}

func age(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return max(0, time.Since(t)).Round(time.Second).String() + " ago"
}

// shortVersion is a program's version as releases are called: a tag's leading v is left out.
func shortVersion(version string) string {
	if short, tagged := strings.CutPrefix(version, "v"); tagged && release.ValidVersion(short) {
		return short
	}
	return version
}

// counted writes a number with its word: one of them, or several.
func counted[N int | int64 | uint64](n N, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", several)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
