package model

import "time"

// Limits on secrets.
const (
	MaxSealed      = 68 << 10  // bytes of one as it is sealed
	MaxSecrets     = 200       // names of one agent
	MaxSecretBytes = 512 << 20 // of all
)

// Secret is one that was sealed to an agent. No node can open it.
type Secret struct {
	Agent       string
	Name        string    // owner/name; the owner is a system, or plugin: and a plugin
	Version     uint64    // one higher with each change
	Sealed      []byte    // empty: it was dropped
	Recipient   string    // key of the agent that it is sealed to
	Former      []byte    `cbor:",omitempty"` // the one before, which is valid beside it
	FormerKey   string    `cbor:",omitempty"` // to which that is sealed
	FormerUntil time.Time `cbor:",omitzero"`  // zero: until it is dropped
	By          string    // who made the newest change
	At          time.Time
}

// SecretMark is what is known of a secret, without what is sealed.
type SecretMark struct {
	Agent       string
	Name        string
	Version     uint64
	Dropped     bool
	Recipient   string
	Former      bool // one is valid beside it
	FormerUntil time.Time
	By          string
	At          time.Time
}

// Mark is the secret without what is sealed.
func (s *Secret) Mark() SecretMark {
	return SecretMark{Agent: s.Agent, Name: s.Name, Version: s.Version, Dropped: len(s.Sealed) == 0, Recipient: s.Recipient,
		Former: len(s.Former) > 0, FormerUntil: s.FormerUntil, By: s.By, At: s.At}
}

// Bytes is what a secret takes.
func (s *Secret) Bytes() int64 { return int64(len(s.Sealed) + len(s.Former)) }

// SetSecret puts a secret, sealed to an agent's key, in the place of the one before. It is
// for an operator, as join tokens are: which secret a system uses is in policy, that another
// person approves; to rotate it is work of every day, and whoever does it learns nothing.
type SetSecret struct {
	Asked
	Agent       string
	Name        string
	Version     uint64 // higher than the one before, for which it was sealed
	Recipient   string // the agent's, as it announces it
	Sealed      []byte
	KeepFormer  bool
	FormerUntil time.Time // zero: until it is dropped
}

// DropSecret takes a secret, or only the former one, from its agent.
type DropSecret struct {
	Asked
	Agent  string
	Name   string
	Former bool
}

// AgentSecret is how a secret stands at its agent.
type AgentSecret struct {
	Name    string   `json:"name"`
	Version uint64   `json:"version"`           // held; 0: none
	Refused string   `json:"refused,omitempty"` // why it cannot be used, or a newer one was not taken
	Only    []string `json:"only,omitempty"`    // hosts that it may be sent to; empty: any
}

func (*SetSecret) command()  {}
func (*DropSecret) command() {}
