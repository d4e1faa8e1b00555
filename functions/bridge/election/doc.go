// Package election elects one of several bridges, by a Lease, and lets events through to
// that one.
package election
