package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent/sealed"
)

// A report that is too long would be refused together with what it acknowledges.
func TestReportIsBounded(t *testing.T) {
	long := strings.Repeat("é", 1000)
	r := report{Refused: long}
	for i := range 500 {
		r.Numbers = append(r.Numbers, NumbersStatus{Range: fmt.Sprintf("range-%03d", i), Refused: long})
	}
	text, err := r.text()
	if err != nil || len(text) > maxReport {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	var got report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Numbers) < 20 || got.Numbers[0].Range != "range-000" || !strings.HasSuffix(got.Numbers[0].Refused, "é...") || len(got.Refused) > maxRefused+3 {
		t.Errorf("%d ranges, refused %q", len(got.Numbers), got.Refused)
	}
	if len(r.Numbers[0].Refused) != len(long) {
		t.Error("what the site's own status says is cut, too")
	}
	hosts := []string{strings.Repeat("x", 100), strings.Repeat("y", 30), "z"}
	r = report{}
	for i := range 200 { // as many as the control plane keeps for an agent
		r.Secrets = append(r.Secrets, sealed.Status{Name: fmt.Sprintf("erp/%d", i), Version: 1, Only: hosts})
	}
	if text, err = r.text(); err != nil {
		t.Fatal(err)
	}
	got = report{}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Secrets) != 200 || !slices.Equal(got.Secrets[0].Only, []string{hosts[0], "..."}) || len(r.Secrets[0].Only) != 3 {
		t.Errorf("%d secrets, for %q", len(got.Secrets), got.Secrets[0].Only)
	}
}
