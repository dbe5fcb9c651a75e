package doctor

import (
	"strings"
	"testing"
	"time"
)

func TestConfiguration(t *testing.T) {
	f := Configuration("agent.yaml: [1:1] unknown field", time.Now(), []string{"data"})
	check(t, f, Warn)
	if !strings.Contains(f.Seen, "unknown field") || !strings.Contains(f.Todo, "config check") {
		t.Errorf("refused: %+v", f)
	}
	f = Configuration("", time.Time{}, []string{"data", "ops.listen"})
	check(t, f, Warn)
	if !strings.Contains(f.Seen, "data, ops.listen") || !strings.Contains(f.Todo, "restart") {
		t.Errorf("waiting: %+v", f)
	}
}
