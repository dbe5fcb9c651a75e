package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/crossdock/crossdock/scripts/record"
)

func TestTargetsAreFoundTheMostExposedFirst(t *testing.T) {
	got, err := targets(fstest.MapFS{
		"agent/queue/a_test.go":        {Data: []byte("package queue\n\nfunc FuzzPages(f *testing.F) {\n")},
		"agent/intake/b_test.go":       {Data: []byte("func FuzzTwo(f *testing.F) {}\nfunc FuzzOne(f *testing.F) {}\n// func FuzzNot(\n")},
		"agent/intake/c.go":            {Data: []byte("func FuzzNeither(f *testing.F) {}\n")},
		"protocol/transport/d_test.go": {Data: []byte("func FuzzToken(f *testing.F) {}\n")},
	})
	want := []target{{"agent/intake", "FuzzOne"}, {"agent/intake", "FuzzTwo"}, {"protocol/transport", "FuzzToken"}, {"agent/queue", "FuzzPages"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := targets(fstest.MapFS{}); err == nil {
		t.Error("a tree without targets is taken for one")
	}
	here, err := targets(os.DirFS("../.."))
	if err != nil || len(here) < 30 {
		t.Errorf("in this tree: %v, %v", here, err)
	}
}

func TestTheTargetWithTheLeastTimeIsNext(t *testing.T) {
	all := []target{{"a", "FuzzA"}, {"b", "FuzzB"}, {"c", "FuzzC"}}
	past := []line{
		{Commit: "1", Target: "a.FuzzA", Seconds: 600, Executions: 5},
		{Commit: "1", Target: "b.FuzzB", Seconds: 900, Failed: true}, // mended since, or it fails again
		{Commit: "1", Target: "c.FuzzC", Seconds: 60},
		{Commit: "1-dirty", Target: "b.FuzzB", Seconds: 900},
	}
	for i, want := range []string{"b.FuzzB", "c.FuzzC", "a.FuzzA"} {
		got, err := choose(all, past, "")
		if err != nil || len(got) != 1 || got[0].String() != want {
			t.Fatalf("choice %d: %v, %v, want %s", i, got, err, want)
		}
		past = append(past, line{Commit: "2", Target: want, Seconds: 700})
	}
	if got, err := choose(all, past, "c.FuzzC,a.FuzzA"); err != nil || fmt.Sprint(got) != "[c.FuzzC a.FuzzA]" {
		t.Errorf("by name: %v, %v", got, err)
	}
	if _, err := choose(all, past, "d.FuzzD"); err == nil {
		t.Error("a target that does not exist is chosen")
	}
}

func TestRecordComesBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.jsonl")
	want := []line{
		{At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Commit: "abc", Target: "a.FuzzA", Seconds: 600.5, Executions: 7},
		{At: time.Date(2026, 1, 2, 3, 5, 5, 0, time.UTC), Commit: "abc-dirty", Target: "a.FuzzA", Failed: true},
	}
	for _, l := range want {
		if err := record.Append(file, l); err != nil {
			t.Fatal(err)
		}
	}
	got, err := read(file)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	var out strings.Builder
	if err := sumUp([]target{{"a", "FuzzA"}, {"b", "FuzzB"}}, got, &out); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"10.0 min", "7 executions in 1 runs, last 2026-01-02, 1 failed", "last never"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the sum lacks %q:\n%s", part, &out)
		}
	}
	if err := os.WriteFile(file, []byte("{\"whatever\":1}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := read(file); err == nil || !strings.Contains(err.Error(), "record.jsonl:1") {
		t.Errorf("a line of another kind: %v", err)
	}
}

func TestProgressRemembersTheLastFigures(t *testing.T) {
	var out strings.Builder
	p := &progress{out: &out}
	said := "fuzz: elapsed: 0s, gathering baseline coverage: 0/9 completed\nfuzz: elapsed: 3s, execs: 250 (83/sec), new interesting: 1 (total: 9)\n" +
		"fuzz: elapsed: 1m1s, execs: 9000 (80/sec), new interesting: 4 (total: 12)\nPASS\n"
	for part := range strings.SplitAfterSeq(said, "e") { // as it may come
		if _, err := p.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if p.result != (result{61, 9000}) || out.String() != said {
		t.Errorf("%+v, passed on %q", p.result, &out)
	}
}

func TestKeptInputsDifferInSize(t *testing.T) {
	dir := t.TempDir()
	for i := range 100 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d", i)), bytes.Repeat([]byte("x"), i*30), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(spread(files, 3)); got != "[000 023 046]" { // 069 is too large
		t.Errorf("got %s", got)
	}
	if got := spread(files, 0); got != nil {
		t.Errorf("room for none: %v", got)
	}
	if got := spread([]fs.DirEntry{files[1], files[2]}, 5); len(got) != 2 {
		t.Errorf("room for more: %v", got)
	}
}
