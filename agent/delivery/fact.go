package delivery

import (
	"encoding/json"
	"time"
)

// DeadLetterState is the life of a dead letter.
type DeadLetterState string

// The states of a dead letter.
const (
	DeadLetterOpen      DeadLetterState = "open"
	DeadLetterReplaying DeadLetterState = "replaying" // tried again; open again when that fails
	DeadLetterDelivered DeadLetterState = "delivered"
	DeadLetterDiscarded DeadLetterState = "discarded"
)

// DeadLetter is a delivery that failed for good. Its JSON is what the control plane reads.
type DeadLetter struct {
	ID          string          `json:"id"` // agent/ref/system
	Agent       string          `json:"agent"`
	Ref         string          `json:"ref"`
	System      string          `json:"system"`
	Route       string          `json:"route"`
	EventID     string          `json:"eventId"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Key         string          `json:"key"`
	Cause       string          `json:"cause"`
	Status      int             `json:"status,omitempty"`
	Answer      string          `json:"answer,omitempty"`
	Attempts    int             `json:"attempts"`
	Waiting     int             `json:"waiting"`
	OnExhausted string          `json:"onExhausted"`
	At          time.Time       `json:"at"`
	State       DeadLetterState `json:"state"`
	By          string          `json:"by,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Event       json.RawMessage `json:"event,omitempty"`
}

// Fact is what Facts.Report takes.
type Fact struct {
	DeadLetter *DeadLetter `json:"deadLetter,omitempty"`
}
