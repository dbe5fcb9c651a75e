package described

import (
	"strconv"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// maxFile is the size of the largest description.
const maxFile = 1 << 20

// reader takes a description apart.
type reader struct {
	*strictyaml.Reader
	shared string // functions of jq before every program
}

func newReader(file string) *reader {
	return &reader{Reader: strictyaml.New(strictyaml.Config{File: file, Holds: "carrier", MaxBytes: maxFile, TooLarge: "shorten it, its examples first"})}
}

// fields are those of one mapping of a description.
type fields struct {
	*strictyaml.Fields
	r *reader
}

// mapping takes a mapping apart; take must ask for every field that is known.
func (r *reader) mapping(n strictyaml.Node, take func(*fields)) {
	r.Mapping(n, func(f *strictyaml.Fields) { take(&fields{f, r}) })
}

// open gives the fields of a mapping whose names are the file's own.
func (r *reader) open(n strictyaml.Node) *fields {
	if f := r.Open(n); f != nil {
		return &fields{f, r}
	}
	return nil
}

// span is a time that passes, such as 90s or 10m; what is missing is standard.
func (f *fields) span(name string, standard, most time.Duration) time.Duration {
	text := f.Text(name, false)
	if text == "" {
		return standard
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > most {
		f.Refuse(f.Line(name), "field %s is %.40q, and must be a time up to %s such as 30s or 10m", name, text, most)
		return standard
	}
	return d
}

// status is an HTTP status.
func (r *reader) status(at strictyaml.Place, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		r.Refuse(at, "%.40q is no HTTP status from 200 to 599", text)
	}
	return n
}
