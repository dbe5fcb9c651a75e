// Package transcript holds what a person types from the packages to the last file removed, as a
// test: a control plane and an agent in a Debian that debootstrap makes, with the real programs.
//
// It refuses to know how anything works inside. Its invariant: every command of the handbook's
// page on installing is one that the transcript has really run.
package transcript
