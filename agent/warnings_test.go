package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestWarningsAreKept(t *testing.T) {
	var out bytes.Buffer
	kept := &warnings{}
	log := slog.New(&keeping{Handler: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}), warnings: kept}).With("agent", "eu").WithGroup("g")
	log.Info("not this")
	log.Warn("little room", "free", 7)
	log.Error("no room", "err", strings.Repeat("ä", maxWarningText))
	list := kept.list()
	if len(list) != 2 || list[0].level != slog.LevelError || list[1].text != "little room agent=eu free=7" || len(list[0].text) > maxWarningText || list[1].at.IsZero() {
		t.Errorf("%+v", list)
	}
	if text := out.String(); strings.Contains(text, "little room") || !strings.Contains(text, "no room") {
		t.Errorf("what is written has changed: %s", text)
	}
	for i := range maxWarnings + 5 {
		log.Warn(fmt.Sprint("line ", i))
	}
	if list = kept.list(); len(list) != maxWarnings || !strings.HasPrefix(list[0].text, fmt.Sprint("line ", maxWarnings+4)) {
		t.Errorf("%d are kept, the newest %q", len(list), list[0].text)
	}
}
