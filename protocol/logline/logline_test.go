package logline

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestForms(t *testing.T) {
	for _, c := range []struct {
		form  Form
		wrong []string
		lines string // without the time
	}{
		{Form{"info", "text"}, nil, "level=INFO msg=told n=1\nlevel=WARN msg=warned n=1\n"},
		{Form{"warn", "text"}, nil, "level=WARN msg=warned n=1\n"},
		{Form{"error", "json"}, nil, ""},
		{Form{"warn", "json"}, nil, `"level":"WARN","msg":"warned","n":1}` + "\n"},
		{Form{"loud", "text"}, []string{`log.level: "loud"`}, "level=INFO msg=told n=1\nlevel=WARN msg=warned n=1\n"},
		{Form{"", "xml"}, []string{`log.level: ""`, `log.format: "xml"`}, "level=INFO msg=told n=1\nlevel=WARN msg=warned n=1\n"},
	} {
		err := c.form.Validate()
		if (err != nil) != (c.wrong != nil) {
			t.Errorf("%+v: %v", c.form, err)
		}
		for _, part := range c.wrong {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%+v: %v does not say %s", c.form, err, part)
			}
		}
		var out bytes.Buffer
		log := c.form.Logger(&out, nil)
		log.Info("told", "n", 1)
		log.Warn("warned", "n", 1)
		var got strings.Builder
		for line := range strings.Lines(out.String()) {
			separator := " "
			if c.form.Format == "json" {
				separator = ","
			}
			_, afterTime, _ := strings.Cut(line, separator)
			got.WriteString(afterTime)
		}
		if got.String() != c.lines {
			t.Errorf("%+v: got %q, want %q", c.form, got.String(), c.lines)
		}
	}
}

// A reload changes the level of a logger that is in use.
func TestLevelThatChanges(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := Form{"warn", "text"}.Logger(&out, level)
	log.Info("not yet")
	if level.Level() != slog.LevelWarn || out.Len() > 0 {
		t.Fatalf("%v %q", level.Level(), out.String())
	}
	Form{"loud", "text"}.SetLevel(level)
	if level.Level() != slog.LevelWarn {
		t.Fatalf("a level that is none set %v", level.Level())
	}
	Form{"info", "text"}.SetLevel(level)
	Form{"info", "text"}.SetLevel(nil)
	log.Info("now")
	if !strings.Contains(out.String(), "msg=now") {
		t.Fatalf("%q", out.String())
	}
}

func TestDurationsAreText(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		Form{"info", format}.Logger(&out, nil).With("every", time.Minute).Info("late", "after", 10005*time.Millisecond, slog.Group("of", "wait", time.Hour), "n", 1)
		for _, want := range []string{"1m0s", "10.005s", "1h0m0s"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %s lacks %s", format, out.String(), want)
			}
		}
	}
}
