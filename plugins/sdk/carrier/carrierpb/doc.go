// Package carrierpb holds the service and messages of carrier plugins, generated from
// carrier.proto.
//
// It is used where package carrier meets the wire and nowhere else. It refuses to know what is
// done with a message. Its invariant: what is committed here is what scripts/generate makes
// of carrier.proto.
package carrierpb
