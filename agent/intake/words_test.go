package intake

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Broken JSON is refused with its place, in every mode.
func TestBrokenJSONSaysWhere(t *testing.T) {
	binary := []string{"Content-Type", "application/json", "Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", "order.captured.v1"}
	for _, tt := range []struct {
		name, body string
		header     []string
		want       string
	}{
		{"structured", `{"specversion":"1.0",]`, []string{"Content-Type", structuredType}, "at byte 22 of the body"},
		{"batch", "[" + structured("1", goodData) + ",x]", []string{"Content-Type", batchType}, fmt.Sprintf("at byte %d of the body", len(structured("1", goodData))+3)},
		{"binary", `{"orderId":}`, binary, "at byte 12 of the data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newRig(t).send(t, tt.body, tt.header...)
			if p := a.problem(t); a.status != 400 || !strings.Contains(p.Detail, tt.want) {
				t.Errorf("got %d %s, want %q", a.status, a.body, tt.want)
			}
		})
	}
}

func TestFullSaysHowFull(t *testing.T) {
	if got := fullness(fmt.Errorf("disk: %w", &FullError{Level: 0.93, Limit: 0.9})); !strings.Contains(got, "93 %") || !strings.Contains(got, "90 %") {
		t.Errorf("got %q", got)
	}
	if got := fullness(ErrFull); got != "" {
		t.Errorf("got %q of what is not known", got)
	}
}

// A connection on which nobody asked anything does not hold up the end. The short limit
// makes Run fail if it does.
func TestUnusedConnectionsDoNotHoldUpTheEnd(t *testing.T) {
	addr, stop := started(t, Config{ShutdownTimeout: 2 * time.Second}, &journal{})
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	answer, err := http.Get("http://" + addr + "/nothing") // accepted after the idle one
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close() // read to its end by nobody
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}
