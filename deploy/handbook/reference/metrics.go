package reference

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Recorder is a registry that keeps what was registered, so that a metric without a value is known too.
type Recorder struct {
	prometheus.Registerer
	collectors []prometheus.Collector
}

// NewRecorder makes an empty one.
func NewRecorder() *Recorder { return &Recorder{Registerer: prometheus.NewRegistry()} }

// Register keeps c.
func (r *Recorder) Register(c prometheus.Collector) error {
	r.collectors = append(r.collectors, c)
	return r.Registerer.Register(c)
}

// MustRegister keeps them.
func (r *Recorder) MustRegister(all ...prometheus.Collector) {
	r.collectors = append(r.collectors, all...)
	r.Registerer.MustRegister(all...)
}

var desc = regexp.MustCompile(`^Desc\{fqName: "(.*)", help: "(.*?)"(?:, unit: ".*?")?, constLabels: \{.*\}, variableLabels: \{(.*)\}\}$`)

// Sets counts the functions below a folder that make a program's metrics: NewMetrics.
func Sets(t *testing.T, folder string) (n int) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(folder), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(p)))
		n += strings.Count(string(text), "\nfunc NewMetrics(")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Metrics describes what was registered as a table.
func Metrics(t *testing.T, title string, r *Recorder) []byte {
	t.Helper()
	rows := map[string]string{}
	for _, c := range r.collectors {
		for _, d := range descs(c) {
			m := desc.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			labels := ""
			if m[3] != "" {
				labels = "`" + strings.ReplaceAll(m[3], ",", "`, `") + "`"
			}
			rows[m[1]] = fmt.Sprintf("| `%s` | %s | %s | %s |\n", m[1], kind(t, c), labels, strings.ReplaceAll(m[2], "|", "\\|"))
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\nServed at `/metrics` of the operators' port, beside those of the Go runtime (`go_*`) and of the process (`process_*`).\n"+
		"Counters begin at 0 with each start. Sizes are bytes, times seconds.\n\n| metric | type | labels | what it tells |\n|---|---|---|---|\n", title)
	names := make([]string, 0, len(rows))
	for name := range rows {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.WriteString(rows[name])
	}
	return b.Bytes()
}

func descs(c prometheus.Collector) (all []*prometheus.Desc) {
	ch := make(chan *prometheus.Desc)
	go func() { c.Describe(ch); close(ch) }()
	for d := range ch {
		all = append(all, d)
	}
	return all
}

func kind(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec:
		return "gauge"
	case *prometheus.HistogramVec:
		return "histogram"
	}
	ch := make(chan prometheus.Metric)
	go func() { c.Collect(ch); close(ch) }()
	found := ""
	for m := range ch {
		var one dto.Metric
		if err := m.Write(&one); err != nil {
			t.Fatal(err)
		}
		switch {
		case one.Counter != nil:
			found = "counter"
		case one.Gauge != nil:
			found = "gauge"
		case one.Histogram != nil:
			found = "histogram"
		}
	}
	if found == "" {
		t.Errorf("%T is of no kind that the reference knows", c)
	}
	return found
}
