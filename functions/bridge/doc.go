// Package bridge is the only function that talks to Keptn. Inward it takes
// triggered events, over NATS or HTTP, and gives them to the Broker; outward it
// gives Keptn the started and finished events that come from there; and it lets
// executors and fetchers read a project's files, by grants, without Keptn's token.
package bridge
