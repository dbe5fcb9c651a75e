// Package sdkpb holds the messages that all plugins share, generated from sdk.proto.
//
// It is used where a contract meets the wire and nowhere else. It refuses to know what is
// done with a message. Its invariant: what is committed here is what scripts/generate makes
// of sdk.proto.
package sdkpb
