// Package service owns how this program becomes a service of the machine: which files, user and
// unit it is installed as, and how it runs as one.
//
// It refuses to know what the program does. Its invariant: it removes nothing but what it has
// written itself.
package service

// Name is the name of the service, of its unit and of its user.
const Name = "crossdock-agent"
