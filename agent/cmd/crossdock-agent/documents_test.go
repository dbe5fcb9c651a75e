package main

import (
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/documents"
)

func TestShowDocuments(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.Local)
	r := agent.DocumentsReport{Status: documents.Status{Count: 3, Bytes: 2048, Quota: 4096, Oldest: at, Arriving: 1, Missing: 2},
		OnTheirWay: []agent.DocumentOnItsWay{{SHA256: "aa", To: []string{"hq", "na"}, Since: at}},
		Documents:  []documents.Listed{{SHA256: "bb", Size: 7, Named: at}}}
	var out strings.Builder
	showDocuments(&out, &r)
	for _, want := range []string{"documents 3", "bytes 2048 of 4096", "oldest last named 2026-05-04 10:00:00", "on their way 1",
		"arriving 1", "missing 2", "aa on its way to hq, na since 2026-05-04 10:00:00", "bb 7 bytes last named", "and 2 more"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
}
