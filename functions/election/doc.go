// Package election elects one of several replicas with a Lease, and passes events to the elected one.
package election
