// Package systemtest holds what must be true of Crossdock as a whole, as tests: real
// agents, in this process or as processes of their own that are killed, a real control
// plane, lines that can be cut, and systems that misbehave.
//
// It refuses to know how any part works inside; it uses the doors that people and systems
// use. Its invariant: what a test concludes it concludes from a history that it recorded
// itself, at the two ends of the way of an event.
package systemtest
