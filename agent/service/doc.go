// Package service owns how this program becomes a service of the machine: what it tells the
// service manager while it runs, and which files, user and unit it is installed as.
//
// It refuses to know what the program does; the command hands in what is to be told. Its
// invariant: it says READY and WATCHDOG only for what it was shown to be so, and it removes
// nothing but what it has written itself.
package service

// Name is the name of the service, of its unit and of its user.
const Name = "crossdock-agent"
