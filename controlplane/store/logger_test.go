package store

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestRaftsLinesAreReadableAndElectionsQuiet(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(slog.New(slog.NewTextHandler(&out, nil)))
	log.Warn("heartbeat timeout reached, starting election", "last-leader-id", "")
	log.Info("election won", "term", 2)
	if out.Len() != 0 {
		t.Errorf("a healthy start said %s", &out)
	}
	log.Warn("failed to contact", "servers", hclog.Fmt("%+v", []string{"node-1"}))
	if got := out.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "servers=[node-1]") {
		t.Errorf("logged %s", got)
	}
}
