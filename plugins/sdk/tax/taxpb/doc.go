// Package taxpb holds the service and messages of tax engines, generated from tax.proto.
//
// It is used where package tax meets the wire and nowhere else. It refuses to know what is
// done with a message. Its invariant: what is committed here is what scripts/generate makes
// of tax.proto.
package taxpb
