// Package report delivers answers to Keptn. The outbox receives them from the Broker, and the reporter
// makes sure that Keptn counts one started and one finished event per task.
package report
