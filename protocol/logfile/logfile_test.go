package logfile

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBothGetTheSameLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log", "agent.log")
	var stderr bytes.Buffer
	level := new(slog.LevelVar)
	log, open, err := Also(slog.New(slog.NewTextHandler(&stderr, &slog.HandlerOptions{Level: level})), Config{File: file, MaxSize: MinSize, Keep: 2}, "test")
	if err != nil {
		t.Fatal(err)
	}
	log = log.With("agent", "eu").WithGroup("of")
	log.Debug("not yet")
	log.Info("first", "n", 1)
	level.Set(slog.LevelDebug)
	log.Debug("second", "n", 2, "after", 10005*time.Millisecond)
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 2 || strings.Count(stderr.String(), "\n") != 2 {
		t.Fatalf("%s\n%s", text, stderr.String())
	}
	var line struct {
		Level, Msg, Agent string
		Of                struct {
			N     int
			After string
		}
	}
	if err := json.Unmarshal([]byte(lines[1]), &line); err != nil || line.Level != "DEBUG" || line.Msg != "second" || line.Agent != "eu" || line.Of.N != 2 || line.Of.After != "10.005s" {
		t.Errorf("%v: %s", err, lines[1])
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v: others can read it", info.Mode(), err)
	}
}

func TestRotation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.log")
	log, open, err := Also(slog.New(slog.DiscardHandler), Config{File: file, MaxSize: MinSize, Keep: 2}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if log.Handler().Enabled(t.Context(), slog.LevelError) {
		t.Error("what the first handler does not want goes to the file")
	}
	log, open, err = Also(slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil)), Config{File: file, MaxSize: MinSize, Keep: 2}, "test")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 300 {
		log.Info(strings.Repeat("x", 8<<10)) // more than two files
	}
	found, err := filepath.Glob(filepath.Join(filepath.Dir(file), "agent*.log"))
	if err != nil || len(found) < 2 {
		t.Errorf("%v, %v", found, err)
	}
	for _, f := range found {
		if info, err := os.Stat(f); err == nil && info.Size() > MinSize {
			t.Errorf("%s has %d bytes", f, info.Size())
		}
	}
}

func TestAFileThatCannotBeWrittenIsToldAtTheStart(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Also(slog.New(slog.DiscardHandler), Config{File: dir, MaxSize: MinSize, Keep: 1}, "test"); err == nil || !strings.Contains(err.Error(), "log.file") {
		t.Errorf("%v", err)
	}
	plain := slog.New(slog.DiscardHandler)
	if log, open, err := Also(plain, Config{}, "test"); err != nil || log != plain || open.Close() != nil {
		t.Errorf("without a file: %v", err)
	}
	for _, c := range []Config{{File: "a", MaxSize: 1, Keep: 1}, {File: "a", MaxSize: MinSize}, {File: "a", MaxSize: MinSize, Keep: MaxKeep + 1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}
