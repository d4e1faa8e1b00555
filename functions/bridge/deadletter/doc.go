// Package deadletter is the Broker's dead letter sink. Tasks whose triggered events no executor accepted end as
// errored.
package deadletter
