// Package gateway lets executors and fetchers read the files of Keptn's projects: it
// signs grants for tasks that Keptn waits for, and serves files to who has one.
package gateway
