package protocol

import "github.com/job-executor/job-executor/functions/keptn"

// ReceiverExtension is the attribute with the name of the Trigger that an event is for, if the event's type does not
// decide. Brokers of every class filter by equal attributes, and only some by anything else.
const ReceiverExtension = "receiver"

// The Triggers that filter by ReceiverExtension.
const (
	// ReceiverBridge gets the answers of executors and the watcher.
	ReceiverBridge = "keptn"
	// ReceiverWatcher gets notices about completed, awaited and cancelled runs.
	ReceiverWatcher = "watcher"
	// ReceiverCustom gets the tasks without an executor of their own.
	ReceiverCustom = "executor-custom"
)

// ReceiverOf returns the receiver of a function's events of a type; empty if a Trigger filters by the type itself.
func ReceiverOf(eventType string) string {
	switch eventType {
	case CompletedType, AwaitedType, CancelledType:
		return ReceiverWatcher
	case LogType:
		return ReceiverBridge
	}
	switch _, phase, _ := keptn.ParseType(eventType); phase {
	case keptn.Started, keptn.Finished:
		return ReceiverBridge
	default:
		return ""
	}
}
