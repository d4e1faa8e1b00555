// Package election elects one of several bridges with a Lease, and passes events to the elected one.
package election
