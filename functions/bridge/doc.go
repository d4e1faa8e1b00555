// Package bridge is the only function that talks to Keptn. Inward it takes triggered
// events, over NATS or HTTP, and gives them to the Broker; outward it gives Keptn the
// started and finished events that come from there; its gateway lets executors and
// fetchers read a project's files without Keptn's token; and one of several bridges is
// elected. Each of these is a room of its own; here they are wired. What is remembered
// of a task, all of it lost with the process and found again from Keptn and the Jobs:
//
//	inward.Inbox      when its triggered event was sent, was looked at, is looked at next
//	outward.Runs      that it was started, and when its Jobs were named last
//	outward.Reporter  which answers were sent when, and since when Keptn knows nothing of it
package bridge
