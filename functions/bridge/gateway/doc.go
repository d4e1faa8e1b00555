// Package gateway serves the files of Keptn's projects to executors and fetchers: it signs grants for tasks
// that Keptn waits for, and serves files to holders of a grant.
package gateway
