package systemtest

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// TestDataRemovedUnderTheAgent: what is taken now would end with the process, so nothing is. What
// was taken before is still delivered, from the files that are open.
func TestDataRemovedUnderTheAgent(t *testing.T) {
	const before = 3
	w := newWorld(t, nil, []string{"eu"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "wms", "eu")}
	})
	eu, wms, shop := w.sites["eu"], w.systems[0], w.shops["eu"]
	wms.set(down)
	eu.start()
	for i := range before {
		if _, refused, err := shop.post(newOrder(fmt.Sprint("o-", i), "k", i, "")); err != nil || refused != nil {
			t.Fatalf("%+v, %v", refused, err)
		}
	}
	if err := os.RemoveAll(eu.cfg.Data); err != nil {
		t.Fatal(err)
	}
	for i := range before + 2 { // those that it knows, too
		if _, refused, err := shop.post(newOrder(fmt.Sprint("o-", i), "k", i, "")); err != nil || refused == nil || refused.Status != http.StatusServiceUnavailable {
			t.Errorf("order %d: %+v, %v; want a refusal with 503", i, refused, err)
		}
	}
	answer, err := http.Get("http://" + eu.cfg.Ops.Listen + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "removed or replaced") {
		t.Errorf("readyz: %s %s, %v", answer.Status, text, err)
	}
	wms.set(nil)
	w.awaitTaken("wms", before)
	if log, err := os.ReadFile(eu.log); err != nil || strings.Count(string(log), "nothing that is written is kept any more") != 1 {
		t.Errorf("the log should say it once: %v\n%s", err, log)
	}
}
