// Package syncpb holds the messages of the sync protocol, generated from sync.proto.
//
// It is used at the two ends of the wire and nowhere else: the uplink and the gateway turn
// its types into their own at the door. It refuses to know what is done with a message.
// Its invariant: what is committed here is what scripts/generate makes of sync.proto.
package syncpb
