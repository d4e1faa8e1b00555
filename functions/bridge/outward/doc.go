// Package outward gives Keptn what happened to runs: the outbox takes started and finished
// events from the Broker, the reporter sees to it that Keptn counts each once, the size
// limit cuts what Keptn would refuse; and the runs that Keptn waits for are looked after,
// so that those of aborted sequences are cancelled.
package outward
