package sdk

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

// A host takes lines of this form apart; all others are text of level debug.
func TestTheLogHasTheFormThatHostsRead(t *testing.T) {
	var out bytes.Buffer
	logger(&out).With("account", "7").Warn("slow", slog.Group("call", "level", "ship"))
	var line struct {
		Level   string    `json:"@level"`
		Message string    `json:"@message"`
		Time    time.Time `json:"@timestamp"`
		Account string    `json:"account"`
		Call    struct {
			Level string `json:"level"`
		} `json:"call"`
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line.Level != "warn" || line.Message != "slow" || line.Time.IsZero() || line.Account != "7" || line.Call.Level != "ship" {
		t.Errorf("got %s", out.Bytes())
	}
}
