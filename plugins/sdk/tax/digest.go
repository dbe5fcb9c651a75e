package tax

import (
	"github.com/crossdock/crossdock/plugins/sdk/internal/wire"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxpb"
)

// Digest tells documents apart by what they say. It is the same in later versions of this
// package, so that an engine may keep it; empty fields do not count, nor does how a number is
// written.
func (d *Document) Digest() (string, error) { return wire.Digest(&taxpb.Document{}, d) }
