// Package deadletter is the Broker's dead letter sink: the triggered events that no executor
// could take become tasks that end as errored.
package deadletter
