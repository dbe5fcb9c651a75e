package logtail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func line(at time.Time, level slog.Level, text string) string {
	said, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always can
	}
	return fmt.Sprintf("{\"time\":%q,\"level\":%q,\"msg\":%s,\"n\":1}\n", at.Format(time.RFC3339Nano), level, said)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestReadOverRotations(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.log")
	now := time.Now().Truncate(time.Millisecond)
	write(t, filepath.Join(dir, "agent-2026-05-04T10-00-00.000.log"), line(now.Add(-3*time.Hour), slog.LevelInfo, "a")+line(now.Add(-2*time.Hour), slog.LevelWarn, "b"))
	write(t, filepath.Join(dir, "agent-2026-05-04T11-00-00.000.log"), line(now.Add(-time.Hour), slog.LevelInfo, "c")+"panic: what\n")
	write(t, filepath.Join(dir, "agent-other.log"), "not ours\n")
	write(t, file, line(now, slog.LevelError, "d")+`{"half`)
	for _, tt := range []struct {
		filter Filter
		want   string
	}{
		{Filter{Level: slog.LevelDebug}, "a b c panic: what d"},
		{Filter{Level: slog.LevelDebug, Last: 2}, "panic: what d"},
		{Filter{Level: slog.LevelWarn}, "b panic: what d"},
		{Filter{Level: slog.LevelDebug, Since: now.Add(-90 * time.Minute)}, "c d"},
		{Filter{Level: slog.LevelWarn, Last: 1, Since: now.Add(-150 * time.Minute)}, "d"},
	} {
		var got []string
		if err := Read(file, tt.filter, func(l Line) error { got = append(got, l.Text); return nil }); err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: got %q, %v, want %s", tt.filter, got, err, tt.want)
		}
	}
	stop := errors.New("stop")
	if err := Read(file, Filter{}, func(Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if err := Read(filepath.Join(dir, "none.log"), Filter{}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// What is written before, during and after a rotation comes once, in order.
func TestFollowOverARotation(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "agent.log")
	now := time.Now()
	write(t, file, line(now, slog.LevelInfo, "1")+line(now, slog.LevelInfo, "2")+`{"time"`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	lines, ended := make(chan string), make(chan error, 1)
	go func() {
		ended <- Follow(ctx, file, Filter{Last: 1, Level: slog.LevelInfo}, func(l Line) error { lines <- l.Text; return nil })
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		case <-ctx.Done():
			t.Fatalf("%s does not come", want)
		}
	}
	next("2")
	write(t, file, strings.TrimPrefix(line(now, slog.LevelInfo, "3"), `{"time"`))
	next("3")
	write(t, file, line(now, slog.LevelInfo, "4"))
	if err := os.Rename(file, filepath.Join(dir, "agent-2026-05-04T10-00-00.000.log")); err != nil {
		t.Fatal(err)
	}
	write(t, file, line(now, slog.LevelDebug, "not wanted")+line(now, slog.LevelInfo, "5"))
	next("4")
	next("5")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestLinesAreShown(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for _, tt := range []struct{ raw, want string }{
		{line(at, slog.LevelWarn, "two\nlines\x1b[2J"), at.Local().Format("2006-01-02 15:04:05.000") + " WARN  two lines [2J n=1"},
		{"panic: \x1b[2Jwhat", "panic:  [2Jwhat"},
	} {
		l := Parse([]byte(strings.TrimSpace(tt.raw)))
		if got := l.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if raw, err := l.MarshalJSON(); err != nil || !json.Valid(raw) {
			t.Errorf("%s, %v", raw, err)
		}
	}
}

// What slog writes as text is read back, whatever is in it.
func TestParseText(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	log.Debug(`a "quoted" = thing`, "key with space", "x=y z", "empty", "", "err", errors.New("a\nb"))
	l := ParseText(strings.TrimSpace(out.String()))
	if !strings.Contains(out.String(), `"key with space"`) || l.Known {
		t.Errorf("a key that slog quotes is not one of ours: %+v of %s", l, out.String())
	}
	out.Reset()
	log.Warn(`a "quoted" = thing`, "to", "x=y z", "empty", "", "err", errors.New("a\nb"))
	l = ParseText(strings.TrimSpace(out.String()))
	if !l.Known || l.Level != slog.LevelWarn || l.Text != `a "quoted" = thing` || l.Attrs["to"] != "x=y z" || l.Attrs["empty"] != "" || l.Attrs["err"] != "a\nb" {
		t.Errorf("%+v of %s", l, out.String())
	}
	for _, text := range []string{"", "plain words", `time=x level=INFO msg=y`, `msg="half`} {
		if ParseText(text).Known {
			t.Errorf("%q is understood", text)
		}
	}
}

// journalctl stands in for systemd's own, on the path alone.
func TestJournald(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("there is no journald on this system")
	}
	bin := t.TempDir()
	entries := `{"__REALTIME_TIMESTAMP":"1777888800000000","PRIORITY":"6","MESSAGE":"time=2026-05-04T10:00:00.000Z level=INFO msg=first agent=eu"}
{"__REALTIME_TIMESTAMP":"1777888801000000","PRIORITY":"6","MESSAGE":"{\"time\":\"2026-05-04T10:00:01Z\",\"level\":\"WARN\",\"msg\":\"second\"}"}
{"__REALTIME_TIMESTAMP":"1777888802000000","PRIORITY":"4","MESSAGE":"Main process exited"}
{"__REALTIME_TIMESTAMP":"1777888803000000","PRIORITY":"6","MESSAGE":[1,2],"__CURSOR":"s=1;i=4"}
`
	later := `{"__REALTIME_TIMESTAMP":"1777888804000000","PRIORITY":"4","MESSAGE":"later"}
{"__REALTIME_TIMESTAMP":"1777888805000000","PRIORITY":"6","MESSAGE":"more"}
`
	script := "#!/bin/sh\necho \"$@\" > " + filepath.Join(bin, "args") + "\ncase \"$*\" in\n*--after-cursor*) cat <<'EOF'\n" + later + "EOF\n;;\n*) cat <<'EOF'\n" + entries + "EOF\n;;\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte(script), 0o700); err != nil { // #nosec G306
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, tt := range []struct {
		filter Filter
		follow bool
		want   []string
		args   string
	}{
		{Filter{Level: slog.LevelDebug, Last: 50}, false, []string{"first", "second", "Main process exited"}, "--lines 50"},
		{Filter{Level: slog.LevelWarn, Last: 1, Since: time.Unix(1777888700, 0)}, false, []string{"Main process exited"}, "--since @1777888700"},
		{Filter{Level: slog.LevelWarn}, true, []string{"second", "Main process exited"}, "--follow --no-tail --lines all"},
		{Filter{Level: slog.LevelWarn, Last: 1, Since: time.Unix(1777888700, 0)}, true, []string{"Main process exited", "later"}, "--quiet --after-cursor=s=1;i=4 --follow"},
		{Filter{Level: slog.LevelDebug, Last: 3}, true, []string{"first", "second", "Main process exited", "later", "more"}, "--after-cursor=s=1;i=4 --follow"},
	} {
		var got []string
		err := Journald(t.Context(), "crossdock-agent", tt.filter, tt.follow, func(l Line) error { got = append(got, l.Text); return nil })
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("got %q, %v, want %q", got, err, tt.want)
		}
		args, err := os.ReadFile(filepath.Join(bin, "args"))
		if err != nil || !strings.Contains(string(args), tt.args) || !strings.HasPrefix(string(args), "-u crossdock-agent -o json") {
			t.Errorf("%s, %v, want %s", args, err, tt.args)
		}
	}
	stop := errors.New("stop")
	if err := Journald(t.Context(), "crossdock-agent", Filter{Level: slog.LevelWarn}, false, func(Line) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil { // #nosec G306
		t.Fatal(err)
	}
	if err := Journald(t.Context(), "crossdock-agent", Filter{}, false, func(Line) error { return nil }); err == nil {
		t.Error("a journalctl that fails is not told")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"time":"2026-05-04T10:00:00Z","level":"INFO","msg":"a"}`))
	f.Add([]byte(`time=2026-05-04T10:00:00Z level=WARN msg="a b"`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, l := range []Line{Parse(raw), ParseText(string(raw))} {
			if text := l.String(); strings.ContainsAny(text, "\n\x1b") {
				t.Errorf("%q breaks a line", text)
			}
			if out, err := l.MarshalJSON(); err != nil || !json.Valid(out) {
				t.Errorf("%q, %v", out, err)
			}
		}
	})
}
