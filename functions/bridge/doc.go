// Package bridge is the only function that talks to Keptn. It publishes Keptn's triggered events to the
// Broker and delivers answers to Keptn. Its gateway serves a project's files without Keptn's token. If
// several bridges run, one is elected. All memory of a task can be lost: it is rebuilt from Keptn and the
// Jobs.
package bridge
