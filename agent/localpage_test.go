package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
)

// The page says of a system in trouble when the next attempt is.
func TestPageSaysWhenTheNextTryIs(t *testing.T) {
	at := time.Now().Add(time.Minute)
	table := systemsTable([]SystemStatus{{SystemStatus: delivery.SystemStatus{System: "erp", State: delivery.SystemOpen, NextTry: at}},
		{SystemStatus: delivery.SystemStatus{System: "wms", State: delivery.SystemOpen, NextTry: at}, Intake: "its token is empty"}})
	want := "open: next try " + at.Local().Format(time.TimeOnly)
	if got := []string{table.Rows[0].Cells[1], table.Rows[1].Cells[1]}; !slices.Equal(got, []string{want, want + ", cannot post"}) {
		t.Errorf("got %q, want %q", got, want)
	}
}
