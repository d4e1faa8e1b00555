// Package files is how executors and fetchers read the files of Keptn's projects without
// Keptn's token: the paths, levels, headers and limits of the bridge's gateway, and its
// client.
package files
