package described

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// recordVersion is of sending, and of the answers of the contract, as this program writes them.
const recordVersion = 1

// sending is what is written down before a call: it is looked up or repeated with it.
type sending struct {
	Name    string          `json:"name"` // of its operation
	Request json.RawMessage `json:"request"`
}

// openRecord opens what was bought: the provider may not be asked for all of it again.
func openRecord(dir string, keep time.Duration, log *slog.Logger, now func() time.Time) (*purchases.Record, error) {
	return purchases.Open(purchases.Config{Dir: dir, Name: "calls", Kind: "carrier-http", Version: recordVersion, Setting: setState, Log: log, Now: now,
		Keep: func(string) time.Duration { return keep }})
}
