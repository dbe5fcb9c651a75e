package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
)

func TestPluginsAreShown(t *testing.T) {
	list := []agent.PluginStatus{
		{Plugin: "zone", Kind: "carrier", State: "running", Version: "1.0.0", Data: "na 2026", PID: 4711, Memory: 3 << 20, Calls: 12, Failed: 2, Crashes: 1},
		{Plugin: "table", Kind: "tax", State: "deactivated", LastError: "it has\nfallen", LastErrorAt: time.Now()},
	}
	data := t.TempDir()
	var asked string
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.String()
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, `{"state":"activated"}`)
			return
		}
		_ = json.NewEncoder(w).Encode(agent.Status{Agent: "eu", Data: data, Plugins: list}) // the client tells
	}))
	defer door.Close()
	config := filepath.Join(data, "agent.yaml")
	text := "data: " + data + "\ncontrolplane: {addresses: ['127.0.0.1:1']}\nops: {listen: '" + strings.TrimPrefix(door.URL, "http://") + "'}\n"
	for file, content := range map[string]string{config: text, filepath.Join(data, "ops.token"): "a-token-that-only-tests-know\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := func(args ...string) string {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), append(args, "-c", config), nil, &out, &errOut); code != 0 {
			t.Errorf("%q: exit code %d, %s", args, code, &errOut)
		}
		return out.String()
	}
	shown := command("plugins")
	for _, line := range []string{"zone carrier running 1.0.0 na 2026 4711 3.0 12 2 1", "table tax deactivated - - 0 0.0 0 0 0"} {
		if !strings.Contains(strings.Join(strings.Fields(shown), " "), line) {
			t.Errorf("no %q in\n%s", line, shown)
		}
	}
	if strings.Count(shown, "\n") != 3 || !strings.Contains(shown, "it has fallen") {
		t.Errorf("the table is\n%s", shown)
	}
	if status := command("status"); !strings.Contains(status, shown) {
		t.Errorf("the status is\n%s", status)
	}
	var read []agent.PluginStatus
	if err := json.Unmarshal([]byte(command("plugins", "-o", "json")), &read); err != nil || len(read) != 2 || read[0].PID != 4711 {
		t.Errorf("as JSON: %+v, %v", read, err)
	}
	if said := command("plugins", "activate", "a b"); !strings.Contains(said, "a b is started again") || asked != "POST /v1/plugins/activate?name=a+b" {
		t.Errorf("it says %q, asked is %q", said, asked)
	}
	list = nil
	if none := command("plugins"); none != "this site has no plugins\n" {
		t.Errorf("without plugins: %q", none)
	}
	if none := command("plugins", "-o", "json"); none != "[]\n" {
		t.Errorf("without plugins, as JSON: %q", none)
	}
}
